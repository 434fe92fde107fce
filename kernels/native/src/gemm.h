// Matrix products of packed operands, C = A B or C += A B, with float32 sums. An operand is packed into panels as wide as
// a tile, in the order in which the micro-kernel reads it; transposes are a matter of how it is read.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>

#include "arch.h"
#include "pool.h"

namespace alice {

// Memory aligned to a cache line, grown on demand and kept.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { free(data_); }

  // At least `length` elements; what they hold is undefined.
  T* reserve(int64_t length) {
    if (length > length_) {
      free(data_);
      length_ = 0;
      const size_t bytes = (size_t(length) * sizeof(T) + 63) / 64 * 64;
      data_ = static_cast<T*>(aligned_alloc(64, bytes));
      if (data_ == nullptr) throw std::bad_alloc();
      length_ = length;
    }
    return data_;
  }
  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  int64_t length_ = 0;
};

inline int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// An operand as it lies in memory: element (i, k) of `outer` by `reduced`, at `data[i * outerStride + k * reducedStride]`.
// One of the strides is 1.
template <class S>
struct Operand {
  const S* data;
  int64_t outerStride;
  int64_t reducedStride;
};

// The rows of a row-major matrix are the outer dimension, or its columns are.
template <class S>
Operand<S> byRows(const S* data, int64_t stride) {
  return {data, stride, 1};
}
template <class S>
Operand<S> byColumns(const S* data, int64_t stride) {
  return {data, 1, stride};
}

// Words along the reduced dimension of a packed operand, whole runs.
template <class T>
int64_t stepsOf(int64_t reduced) {
  constexpr int run = Packing<T>::run;
  return ceilDivide(reduced, Packing<T>::depth * run) * run;
}

// Rounds two neighbours along the reduced dimension into one pair.
inline uint32_t roundedPair(float low, float high) {
  return (roundedBits(low) >> 16) | (roundedBits(high) & 0xffff0000u);
}

// One word of a packed operand: what is at `row`, for pairs together with its neighbour `stride` on, unless that is past
// the `left` elements.
template <class S>
uint32_t wordOf(const S* row, int64_t, int64_t, const float*) {
  const float value = toFloat(row[0]);
  uint32_t word;
  memcpy(&word, &value, sizeof word);
  return word;
}
template <class S>
uint32_t wordOf(const S* row, int64_t stride, int64_t left, const Bf16*) {
  return roundedPair(toFloat(row[0]), left > 1 ? toFloat(row[stride]) : 0);
}

// The words of `Width` neighbours of an operand that lie side by side in memory.
template <int Width, class T, class S>
void neighbours(uint32_t* out, const S* row, int64_t stride, const T* kind) {
  for (int i = 0; i < Width; i++) out[i] = wordOf(row + i, stride, Packing<T>::depth, kind);
}

// Packs outer elements [first, first + count) into one panel; missing ones are zero. A panel holds the words of `Width`
// outer elements, [steps / Run][Width][Run]. What memory has side by side is turned unless the panel has so, too.
template <int Width, int Run, class T, class S>
void packPanel(T* to, const Operand<S>& from, int64_t first, int count, int64_t reduced) {
  static_assert(Run == 1 || (Run == kLanes && Width % Run == 0), "a run is a register");
  constexpr int depth = Packing<T>::depth;
  uint32_t* out = reinterpret_cast<uint32_t*>(to);
  const S* data = from.data + first * from.outerStride;
  const int64_t stride = from.reducedStride, steps = stepsOf<T>(reduced);
  const auto place = [&](int64_t step, int i) { return out + (step / Run * Width + i) * Run + step % Run; };
  int64_t step = 0;
  if (from.outerStride == 1) {
    if (count == Width)
      for (; (step + Run) * depth <= reduced; step += Run) {
        const S* row = data + step * depth * stride;
        if constexpr (Run == 1) {
          neighbours<Width>(place(step, 0), row, stride, to);
        } else {
          for (int group = 0; group < Width; group += kLanes) {
            Words block[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) {
              uint32_t words[kLanes];
              neighbours<kLanes>(words, row + i * depth * stride + group, stride, to);
              memcpy(&block[i], words, sizeof words);
            }
            transpose(block);
            memcpy(place(step, group), block, sizeof block);
          }
        }
      }
  } else if constexpr (Run == 1) {
    // Blocks of rows are turned in registers. All lanes are stored, the last group first: what is too much is
    // overwritten, except at the end of the panel, where another thread's may begin.
    for (; (step + kLanes) * depth <= reduced; step += kLanes)
      for (int group = (Width - 1) / kLanes * kLanes; group >= 0; group -= kLanes) {
        Words block[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++)
          block[i] = group + i < count ? loadWords(data + (group + i) * from.outerStride + step * depth, to) : Words{};
        transpose(block);
        uint32_t* rows = place(step, group);
        constexpr int last = kLanes - 1;
        for (int j = 0; j < last; j++) memcpy(rows + j * Width, &block[j], sizeof(Words));
        const int room = step + kLanes == steps ? std::min(kLanes, Width - group) : kLanes;
        memcpy(rows + last * Width, &block[last], size_t(room) * sizeof(uint32_t));
      }
  } else {
    for (; (step + Run) * depth <= reduced; step += Run)
      for (int i = 0; i < Width; i++) {
        const Words words = i < count ? loadWords(data + i * from.outerStride + step * depth, to) : Words{};
        memcpy(place(step, i), &words, sizeof words);
      }
  }
  for (; step < steps; step++) {
    const int64_t left = reduced - step * depth;
    for (int i = 0; i < Width; i++)
      *place(step, i) =
          i < count && left > 0 ? wordOf(data + i * from.outerStride + step * depth * stride, stride, left, to) : 0;
  }
}

// A packed operand: panel p begins at `data + p * stride`.
template <class T>
struct Packed {
  const T* data;
  int64_t stride;
};

// The panels of the left or the right operand of a product.
template <class T>
struct Left {
  static constexpr int width = kTileRows<T>, run = Packing<T>::run;
};
template <class T>
struct Right {
  static constexpr int width = kTileColumns, run = 1;
};

template <class Side, class T, class S>
void packPanelOf(Packed<T> to, const Operand<S>& from, int64_t panel, int64_t outer, int64_t reduced) {
  const int count = int(std::min<int64_t>(Side::width, outer - panel * Side::width));
  packPanel<Side::width, Side::run>(const_cast<T*>(to.data) + panel * to.stride, from, panel * Side::width, count,
                                    reduced);
}

template <class Side, class T>
Packed<T> reservePanels(Buffer<T>& buffer, int64_t outer, int64_t reduced) {
  const int64_t stride = stepsOf<T>(reduced) * Packing<T>::depth * Side::width;
  return {buffer.reserve(ceilDivide(outer, Side::width) * stride), stride};
}

// Packs an operand, by one thread or by all of a pool's.
template <class Side, class T, class S>
Packed<T> pack(Buffer<T>& buffer, const Operand<S>& from, int64_t outer, int64_t reduced, Pool* pool) {
  const Packed<T> to = reservePanels<Side>(buffer, outer, reduced);
  const int64_t panels = ceilDivide(outer, Side::width);
  const auto panel = [&](int64_t p, int) { packPanelOf<Side>(to, from, p, outer, reduced); };
  if (pool != nullptr)
    pool->run(panels, panel);
  else
    for (int64_t p = 0; p < panels; p++) panel(p, 0);
  return to;
}
template <class T, class S>
Packed<T> packLeft(Buffer<T>& buffer, const Operand<S>& from, int64_t outer, int64_t reduced, Pool* pool = nullptr) {
  return pack<Left<T>>(buffer, from, outer, reduced, pool);
}
template <class T, class S>
Packed<T> packRight(Buffer<T>& buffer, const Operand<S>& from, int64_t outer, int64_t reduced, Pool* pool = nullptr) {
  return pack<Right<T>>(buffer, from, outer, reduced, pool);
}

// Both operands of a product, without waiting between them.
template <class T, class A, class B>
std::pair<Packed<T>, Packed<T>> packBoth(Pool& pool, Buffer<T>& leftBuffer, const Operand<A>& left,
                                         Buffer<T>& rightBuffer, const Operand<B>& right, int64_t rows,
                                         int64_t columns, int64_t reduced) {
  const Packed<T> a = reservePanels<Left<T>>(leftBuffer, rows, reduced);
  const Packed<T> b = reservePanels<Right<T>>(rightBuffer, columns, reduced);
  const int64_t panels = ceilDivide(rows, kTileRows<T>);
  pool.run(panels + ceilDivide(columns, kTileColumns), [&](int64_t task, int) {
    if (task < panels)
      packPanelOf<Left<T>>(a, left, task, rows, reduced);
    else
      packPanelOf<Right<T>>(b, right, task - panels, columns, reduced);
  });
  return {a, b};
}

// Most of the reduced dimension in one go: a panel of B then stays near the core. Whole runs of words. Short sums are also
// the more exact ones, which float32 is for.
template <class T>
constexpr int64_t kReducedBlock = Packing<T>::depth == 1 ? 128 : 1024;

// C [rows, columns] = A B or C += A B, by one thread. The order of additions depends on `reduced` alone.
template <class T>
void multiply(Packed<T> a, Packed<T> b, int64_t rows, int64_t columns, int64_t reduced, float* c, int64_t stride,
              bool accumulate) {
  static_assert(kReducedBlock<T> % (Packing<T>::depth * Packing<T>::run) == 0, "runs are not cut");
  [[maybe_unused]] const Multiplying<T> state;
  for (int64_t start = 0; start < reduced; start += kReducedBlock<T>) {
    const int64_t steps = stepsOf<T>(std::min(kReducedBlock<T>, reduced - start));
    const bool add = accumulate || start > 0;
    for (int64_t column = 0; column < columns; column += kTileColumns) {
      const T* right = b.data + column / kTileColumns * b.stride + start * kTileColumns;
      const int width = int(std::min<int64_t>(kTileColumns, columns - column));
      for (int64_t row = 0; row < rows; row += kTileRows<T>) {
        TileSums<T> tile;
        multiplyTile(steps, a.data + row / kTileRows<T> * a.stride + start * kTileRows<T>, right, tile);
        const int height = int(std::min<int64_t>(kTileRows<T>, rows - row));
        float* to = c + row * stride + column;
        if (width == kTileColumns) {
          for (int i = 0; i < height; i++, to += stride)
            for (int j = 0; j < kTileVectors; j++)
              storeVector(to + j * kLanes, add ? loadVector(to + j * kLanes) + tile[i][j] : tile[i][j]);
        } else {
          for (int i = 0; i < height; i++, to += stride) {
            float values[kTileColumns];
            memcpy(values, tile[i], sizeof values);
            for (int j = 0; j < width; j++) to[j] = add ? to[j] + values[j] : values[j];
          }
        }
      }
    }
  }
}

// Blocks of C that are tasks of their own: small enough for the caches, and several for each thread.
template <class T>
struct Grid {
  int64_t blockRows, blockColumns, down, across;

  Grid(int64_t rows, int64_t columns, int threads) {
    const int64_t panelsDown = ceilDivide(rows, kTileRows<T>), panelsAcross = ceilDivide(columns, kTileColumns);
    int64_t high = std::min<int64_t>(panelsDown, Packing<T>::group), wide = std::min<int64_t>(panelsAcross, 8);
    const auto tasks = [&] { return ceilDivide(panelsDown, high) * ceilDivide(panelsAcross, wide); };
    while (threads > 1 && tasks() < 4 * threads && (high > 2 || wide > 2))
      if (wide >= high) wide = (wide + 1) / 2;
      else high = (high + 1) / 2;
    // Equal blocks: no sliver at the end.
    down = ceilDivide(panelsDown, high);
    across = ceilDivide(panelsAcross, wide);
    blockRows = ceilDivide(panelsDown, down) * kTileRows<T>;
    blockColumns = ceilDivide(panelsAcross, across) * kTileColumns;
    down = ceilDivide(rows, blockRows);
    across = ceilDivide(columns, blockColumns);
  }
};

// The same by all threads.
template <class T>
void multiply(Pool& pool, Packed<T> a, Packed<T> b, int64_t rows, int64_t columns, int64_t reduced, float* c,
              int64_t stride, bool accumulate) {
  const Grid<T> grid(rows, columns, pool.threads());
  pool.run(grid.down * grid.across, [&](int64_t task, int) {
    const int64_t row = task % grid.down * grid.blockRows, column = task / grid.down * grid.blockColumns;
    multiply<T>({a.data + row / kTileRows<T> * a.stride, a.stride},
                {b.data + column / kTileColumns * b.stride, b.stride}, std::min(grid.blockRows, rows - row),
                std::min(grid.blockColumns, columns - column), reduced, c + row * stride + column, stride, accumulate);
  });
}

// Seconds of `repeats` products of packed matrices of `size` by `size`, by all threads: the peak that speeds are shares of.
template <class T>
double secondsOfProducts(Pool& pool, int64_t size, int64_t repeats) {
  Buffer<float> values, c;
  Buffer<T> left, right;
  std::fill_n(values.reserve(size * size), size * size, 1e-3f);
  const auto [a, b] = packBoth(pool, left, byRows<float>(values.data(), size), right, byRows<float>(values.data(), size),
                               size, size, size);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repeats; i++) multiply(pool, a, b, size, size, size, c.reserve(size * size), size, false);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace alice
