// What the parts of a model share: matrix products, row-wise operations by all threads, and their scratch memory.
#pragma once
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "elementwise.h"
#include "gemm.h"
#include "phases.h"
#include "shape.h"

namespace alice {

// Weights wherever they lie, in float32 or rounded to bfloat16.
struct Weights {
  const float* floats;
  const Bf16* rounded;

  Weights(const float* values) : floats(values), rounded(nullptr) {}
  Weights(const Bf16* values) : floats(nullptr), rounded(values) {}
  Weights operator+(int64_t offset) const { return rounded != nullptr ? Weights(rounded + offset) : Weights(floats + offset); }
};

// How a matrix is an operand: see byRows and byColumns.
enum class Read { kByRows, kByColumns };

// T is what matrix products take. One user at a time.
template <class T>
class Work {
 public:
  Work(const Shape& shape, Pool& pool) : shape(shape), at(shape), pool(pool) {
    panels_ = std::make_unique<Buffer<T>[]>(size_t(pool.threads()));
  }

  const Shape shape;
  const Layout at;
  Pool& pool;
  PhaseClock clock;
  // For one matrix product.
  Buffer<T> left, right;

  // Memory for as many rows as a call has at most.
  float* reserveRows(Buffer<float>& buffer, int64_t width) { return buffer.reserve(shape.batch * shape.context * width); }

  // Calls `body(row)` for all rows of a range.
  template <class Body>
  void forRows(int64_t rows, const Body& body) {
    pool.run(ceilDivide(rows, kRowsPerTask), [&](int64_t task, int) {
      for (int64_t row = task * kRowsPerTask; row < std::min(rows, (task + 1) * kRowsPerTask); row++) body(row);
    });
  }

  // C [rows, columns] = left right
  template <class A, class B>
  void product(const Operand<A>& leftOperand, const Operand<B>& rightOperand, int64_t rows, int64_t columns,
               int64_t reduced, float* c, bool accumulate) {
    const auto [a, b] = packBoth(pool, left, leftOperand, right, rightOperand, rows, columns, reduced);
    multiply(pool, a, b, rows, columns, reduced, c, columns, accumulate);
  }

  // The same for weights on the right.
  template <class A>
  void product(const Operand<A>& leftOperand, const Weights& weights, Read read, int64_t stride, int64_t rows,
               int64_t columns, int64_t reduced, float* c, bool accumulate) {
    if (weights.rounded == nullptr) {
      weightProduct(leftOperand, operand(weights.floats, read, stride), rows, columns, reduced, c, accumulate);
      return;
    }
    if constexpr (std::is_same_v<T, Bf16>)
      weightProduct(leftOperand, operand(weights.rounded, read, stride), rows, columns, reduced, c, accumulate);
    else
      throw std::invalid_argument("rounded weights need an engine in bf16");
  }

  // [rows, hidden]; valid until the next call.
  const float* rmsNorm(const float* x, const float* weight, int64_t rows) {
    float* y = reserveRows(normalized_, shape.hidden);
    forRows(rows, [&](int64_t row) {
      rmsNormRow(x + row * shape.hidden, weight, y + row * shape.hidden, shape.hidden, float(shape.epsilon));
    });
    return y;
  }

  // dx (= or +=) the gradient; the weight's is summed up in fixed groups of rows. `dx` may be `dy`.
  void rmsNormBackward(const float* x, const float* weight, const float* dy, float* dx, bool addToStream, float* dWeight,
                       bool accumulate, int64_t rows) {
    const int64_t tasks = ceilDivide(rows, kRowsPerTask), width = shape.hidden;
    float* partial = partialSums_.reserve(tasks * width);
    pool.run(tasks, [&](int64_t task, int) {
      float* dw = partial + task * width;
      std::fill_n(dw, width, 0.0f);
      for (int64_t row = task * kRowsPerTask; row < std::min(rows, (task + 1) * kRowsPerTask); row++)
        rmsNormRowBackward(x + row * width, weight, dy + row * width, dx + row * width, dw, width,
                           float(shape.epsilon), addToStream);
    });
    if (!accumulate) std::fill_n(dWeight, width, 0.0f);
    for (int64_t task = 0; task < tasks; task++)
      for (int64_t i = 0; i < width; i++) dWeight[i] += partial[task * width + i];
  }

 private:
  static constexpr int64_t kRowsPerTask = 32;
  // While the left operand stays in the last cache, it pays to pack weights in pieces that stay in a core's, and to
  // multiply everything by a piece at once: packed weights never go to memory.
  static constexpr int64_t kCachedLeftBytes = int64_t(1) << 24;
  static constexpr int64_t kPiecePanels = 8, kPieceDepth = 1024;
  static_assert(kPieceDepth % kReducedBlock<T> == 0, "sums are cut where they always are");

  template <class S>
  static Operand<S> operand(const S* data, Read read, int64_t stride) {
    return read == Read::kByRows ? byRows(data, stride) : byColumns(data, stride);
  }

  template <class A, class B>
  void weightProduct(const Operand<A>& leftOperand, const Operand<B>& weights, int64_t rows, int64_t columns,
                     int64_t reduced, float* c, bool accumulate) {
    if (rows * reduced * int64_t(sizeof(T)) > kCachedLeftBytes) {
      product(leftOperand, weights, rows, columns, reduced, c, accumulate);
      return;
    }
    const Packed<T> a = packLeft(left, leftOperand, rows, reduced, &pool);
    const int64_t panels = ceilDivide(columns, kTileColumns), share = ceilDivide(panels, 4 * pool.threads());
    const int64_t pieceColumns = std::min(kPiecePanels, share) * kTileColumns;
    pool.run(ceilDivide(columns, pieceColumns), [&](int64_t task, int thread) {
      const int64_t column = task * pieceColumns, width = std::min(pieceColumns, columns - column);
      for (int64_t start = 0; start < reduced; start += kPieceDepth) {
        const int64_t depth = std::min(kPieceDepth, reduced - start);
        const Operand<B> piece{weights.data + column * weights.outerStride + start * weights.reducedStride,
                               weights.outerStride, weights.reducedStride};
        const Packed<T> b = packRight(panels_[size_t(thread)], piece, width, depth);
        multiply<T>({a.data + start * kTileRows<T>, a.stride}, b, rows, width, depth, c + column, columns,
                    accumulate || start > 0);
      }
    });
  }

  Buffer<float> normalized_, partialSums_;
  // Of each thread.
  std::unique_ptr<Buffer<T>[]> panels_;
};

}  // namespace alice
