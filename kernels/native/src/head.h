// Final norm, output head and cross-entropy (kernels/model/head.ts), forward and backward. The vocabulary may come in
// parts, so that neither the head nor its gradient is ever whole: `forward` for each part, `finish`, `backward` for each
// part, `end`.
#pragma once
#include "work.h"

namespace alice {

// Rows of a head from `start` on, a multiple of kHeadBlock.
struct HeadPart {
  Weights weights;
  int64_t start, width;
};

// Columns of the head that go through the caches together, and those that share a running maximum.
constexpr int64_t kHeadBlock = 2048;
constexpr int64_t kHeadTile = 8 * kTileColumns;
static_assert(kHeadBlock % kHeadTile == 0, "a tile lies in one block");

template <class T>
class Head {
 public:
  explicit Head(Work<T>& work) : work_(work), s_(work.shape), pool_(work.pool) {
    tiles_ = std::make_unique<Buffer<float>[]>(size_t(pool_.threads()));
    across_ = ceilDivide(s_.vocabulary, kHeadTile);
  }

  // Rows whose probabilities may exist at once. Whole blocks of a reduction where there are several, so that the order of
  // sums does not depend on how many rows a call has.
  int64_t chunkRows() const {
    const int64_t fit = std::max<int64_t>(1, s_.headBytes / int64_t(s_.vocabulary * sizeof(T)));
    return fit < kReducedBlock<T> ? fit : fit / kReducedBlock<T> * kReducedBlock<T>;
  }

  // Begins with rows that all the following calls are about, counted from 0. Probabilities of `forward` are kept for
  // `backward` if they are few enough and a gradient is wanted.
  void begin(const int32_t* targets, int64_t rows, bool gradient) {
    begun_ = finished_ = 0;
    std::copy_n(targets, rows, targets_.reserve(rows));
    maxima_.reserve(rows * across_);
    sums_.reserve(rows * across_);
    targetLogits_.reserve(rows);
    keeps_ = gradient && rows <= chunkRows();
    if (keeps_) probabilities_.reserve(rows * s_.vocabulary);
    begun_ = rows;
  }

  // Logits of `rows` rows from `first` on, `x` being theirs of the stream.
  void forward(const HeadPart& part, const float* norm, const float* x, int64_t first, int64_t rows) {
    require(first + rows <= begun_);
    const PhaseScope phase(work_.clock, Phase::headForward);
    inChunks(first, rows, [&](int64_t row, int64_t count) {
      const float* normalized = work_.rmsNorm(x + (row - first) * s_.hidden, norm, count);
      const Packed<T> left = packLeft(left_, byRows(normalized, s_.hidden), count, s_.hidden, &pool_);
      forBlocks(part, [&](int64_t start, int64_t width) {
        T* probabilities = keeps_ ? probabilities_.data() + row * s_.vocabulary + start : nullptr;
        logits(left, part, start, width, row, count, probabilities, s_.vocabulary, true);
      });
    });
  }

  // When all columns are known: losses, and the factors by which probabilities are too large.
  void finish(float rowWeight, int64_t rows, float* rowLosses) {
    require(rows == begun_);
    const PhaseScope phase(work_.clock, Phase::headForward);
    float* factors = factors_.reserve(rows * across_);
    work_.forRows(rows, [&](int64_t i) {
      const float *maxima = maxima_.data() + i * across_, *sums = sums_.data() + i * across_;
      RunningSum all{maxima[0], sums[0]};
      for (int64_t tile = 1; tile < across_; tile++) all.add(maxima[tile], sums[tile]);
      const float logSum = all.logSum();
      float& target = targetLogits_.data()[i];
      rowLosses[i] = logSum - target;
      for (int64_t tile = 0; tile < across_; tile++)
        factors[i * across_ + tile] = expOf(maxima[tile] - logSum) * rowWeight;
      target = (expOf(target - logSum) - 1) * rowWeight;
    });
    finished_ = rows;
  }

  // `dNormalized` of these rows adds up over the parts, from the first on; `gradient` is the part's.
  void backward(const HeadPart& part, const float* norm, const float* x, int64_t first, int64_t rows, float* dNormalized,
                float* gradient, bool accumulate) {
    require(first + rows <= finished_);
    const PhaseScope phase(work_.clock, Phase::headBackward);
    const int64_t hidden = s_.hidden;
    inChunks(first, rows, [&](int64_t row, int64_t count) {
      const float* normalized = work_.rmsNorm(x + (row - first) * hidden, norm, count);
      const Packed<T> inputs = packRight(right_, byColumns(normalized, hidden), hidden, count, &pool_);
      Packed<T> again{};
      if (!keeps_) again = packLeft(left_, byRows(normalized, hidden), count, hidden, &pool_);
      forBlocks(part, [&](int64_t start, int64_t width) {
        const int64_t stride = keeps_ ? s_.vocabulary : width;
        T* block = keeps_ ? probabilities_.data() + row * stride + start : probabilities_.reserve(count * kHeadBlock);
        if (!keeps_) logits(again, part, start, width, row, count, block, stride, false);
        difference(block, stride, start, width, row, count);
        work_.product(byRows<T>(block, stride), part.weights + (start - part.start) * hidden, Read::kByColumns, hidden,
                      count, hidden, width, dNormalized + (row - first) * hidden, start > 0);
        const Packed<T> left = packLeft(work_.left, byColumns<T>(block, stride), width, count, &pool_);
        multiply(pool_, left, inputs, width, hidden, count, gradient + (start - part.start) * hidden, hidden,
                 accumulate || row > first);
      });
    });
  }

  // Turns `dNormalized` into the gradient of the stream.
  void end(const float* norm, const float* x, int64_t rows, float* dStream, float* dNorm, bool accumulate) {
    const PhaseScope phase(work_.clock, Phase::headBackward);
    for (int64_t row = 0, chunk = chunkRows(); row < rows; row += chunk) {
      float* dx = dStream + row * s_.hidden;
      work_.rmsNormBackward(x + row * s_.hidden, norm, dx, dx, false, dNorm, accumulate || row > 0,
                            std::min(chunk, rows - row));
    }
  }

 private:
  static void require(bool begun) {
    if (!begun) throw std::invalid_argument("the head has not come to these rows");
  }

  template <class Body>
  void inChunks(int64_t first, int64_t rows, const Body& body) {
    const int64_t chunk = chunkRows();
    for (int64_t row = first; row < first + rows; row += chunk) body(row, std::min(chunk, first + rows - row));
  }

  template <class Body>
  static void forBlocks(const HeadPart& part, const Body& body) {
    for (int64_t start = part.start; start < part.start + part.width; start += kHeadBlock)
      body(start, std::min(kHeadBlock, part.start + part.width - start));
  }

  // Logits of a block of columns, in tiles; exponentials relative to each tile's largest logit.
  void logits(const Packed<T>& left, const HeadPart& part, int64_t start, int64_t width, int64_t firstRow, int64_t rows,
              T* probabilities, int64_t stride, bool learn) {
    constexpr int64_t taskRows = kGroupRows<T>;
    const int64_t hidden = s_.hidden, down = ceilDivide(rows, taskRows), across = ceilDivide(width, kHeadTile);
    const Weights weights = part.weights + (start - part.start) * hidden;
    Packed<T> right;
    if (weights.rounded == nullptr)
      right = packRight(work_.right, byRows(weights.floats, hidden), width, hidden, &pool_);
    else if constexpr (std::is_same_v<T, Bf16>)
      right = packRight(work_.right, byRows(weights.rounded, hidden), width, hidden, &pool_);
    else
      throw std::invalid_argument("rounded weights need an engine in bf16");
    pool_.run(down * across, [&](int64_t task, int thread) {
      const int64_t row = task % down * taskRows, height = std::min(taskRows, rows - row);
      const int64_t column = task / down * kHeadTile, columns = std::min(kHeadTile, width - column);
      float* tile = tiles_[size_t(thread)].reserve(taskRows * kHeadTile);
      multiply<T>({left.data + row / kTileRows<T> * left.stride, left.stride},
                  {right.data + column / kTileColumns * right.stride, right.stride}, height, columns, hidden, tile,
                  kHeadTile, false);
      for (int64_t i = row; i < row + height; i++, tile += kHeadTile) {
        const int64_t at = (firstRow + i) * across_ + (start + column) / kHeadTile;
        if (learn) {
          const int64_t wanted = targets_.data()[firstRow + i] - (start + column);
          if (wanted >= 0 && wanted < columns) targetLogits_.data()[firstRow + i] = tile[wanted];
          maxima_.data()[at] = largest(tile, columns);
        }
        const float sum = expAndSum(tile, maxima_.data()[at], columns);
        if (learn) sums_.data()[at] = sum;
        if (probabilities == nullptr) continue;
        T* to = probabilities + i * stride + column;
        for (int64_t j = 0; j < columns; j++) store(to + j, tile[j]);
      }
    });
  }

  // Turns exponentials into the gradient of the logits.
  void difference(T* block, int64_t stride, int64_t start, int64_t width, int64_t firstRow, int64_t rows) {
    work_.forRows(rows, [&](int64_t i) {
      const int64_t row = firstRow + i;
      for (int64_t column = 0; column < width; column += kHeadTile) {
        const float factor = factors_.data()[row * across_ + (start + column) / kHeadTile];
        T* to = block + i * stride + column;
        for (int64_t j = 0; j < std::min(kHeadTile, width - column); j++) store(to + j, toFloat(to[j]) * factor);
      }
      const int64_t wanted = targets_.data()[row] - start;
      if (wanted >= 0 && wanted < width) store(block + i * stride + wanted, targetLogits_.data()[row]);
    });
  }

  Work<T>& work_;
  const Shape& s_;
  Pool& pool_;
  // Tiles of a row.
  int64_t across_;
  bool keeps_ = false;
  // Rows of the present call, and those with losses.
  int64_t begun_ = 0, finished_ = 0;
  Buffer<int32_t> targets_;
  Buffer<T> left_, right_, probabilities_;
  Buffer<float> maxima_, sums_, factors_, targetLogits_;
  std::unique_ptr<Buffer<float>[]> tiles_;
};

}  // namespace alice
