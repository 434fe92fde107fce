// Causal grouped-query attention for one head of one sequence, forward and backward. Probabilities exist for one stripe of
// query positions at a time, and only up to its last one's diagonal. Backward computes them again from the kept
// logarithm of each row's sum of exponentials.
#pragma once
#include "elementwise.h"
#include "gemm.h"

namespace alice {

// Where a head of a sequence lies: `query`, `key` and `value` are [positions, width] with rows `stride` apart, `context`
// (the result) with rows `contextStride` apart; `logSums` has one number a position. The query holds the softmax scale.
struct HeadView {
  int64_t positions, width;
  const float *query, *key, *value;
  int64_t stride;
  float* context;
  int64_t contextStride;
  float* logSums;
};

// Gradients of the same: d(query) beside the query's rows; those of key and value belong to one query head each.
struct HeadGradients {
  const float* dContext;
  float* dQuery;
  int64_t queryStride;
  float *dKey, *dValue;
  int64_t keyStride;
};

// One thread's memory.
template <class T>
class Attention {
 public:
  void forward(const HeadView& head) {
    const auto [positions, width, query, key, value, stride, context, contextStride, logSums] = head;
    const Packed<T> keys = packRight(keysByPosition_, byRows(key, stride), positions, width);
    const Packed<T> values = packRight(valuesByWidth_, byColumns(value, stride), width, positions);
    float* scores = scores_.reserve(kStripe * positions);
    for (int64_t first = 0; first < positions; first += kStripe) {
      const int64_t count = std::min(kStripe, positions - first), seen = first + count;
      const Packed<T> queries = packLeft(queries_, byRows(query + first * stride, stride), count, width);
      multiply(queries, keys, count, seen, width, scores, seen, false);
      for (int64_t i = 0; i < count; i++) {
        float* row = scores + i * seen;
        const int64_t visible = first + i + 1;
        const float most = largest(row, visible), sum = expAndSum(row, most, visible);
        for (int64_t j = 0; j < visible; j++) row[j] /= sum;
        std::fill(row + visible, row + seen, 0.0f);
        logSums[first + i] = most + std::log(sum);
      }
      const Packed<T> weights = packLeft(byQuery_, byRows<float>(scores, seen), count, seen);
      multiply(weights, values, count, width, seen, context + first * contextStride, contextStride, false);
    }
  }

  void backward(const HeadView& head, const HeadGradients& gradients) {
    const auto [positions, width, query, key, value, stride, context, contextStride, logSums] = head;
    const auto [dContext, dQuery, queryStride, dKey, dValue, keyStride] = gradients;
    const Packed<T> keys = packRight(keysByPosition_, byRows(key, stride), positions, width);
    const Packed<T> keysAcross = packRight(keysByWidth_, byColumns(key, stride), width, positions);
    const Packed<T> values = packRight(valuesByPosition_, byRows(value, stride), positions, width);
    float* weights = scores_.reserve(kStripe * positions);
    float* dScores = dScores_.reserve(kStripe * positions);
    for (int64_t i = 0; i < positions; i++) {
      std::fill_n(dKey + i * keyStride, width, 0.0f);
      std::fill_n(dValue + i * keyStride, width, 0.0f);
    }
    for (int64_t first = 0; first < positions; first += kStripe) {
      const int64_t count = std::min(kStripe, positions - first), seen = first + count;
      const float* rows = query + first * stride;
      const float* dRows = dContext + first * contextStride;
      multiply(packLeft(queries_, byRows(rows, stride), count, width), keys, count, seen, width, weights, seen, false);
      multiply(packLeft(queries_, byRows(dRows, contextStride), count, width), values, count, seen, width, dScores,
               seen, false);
      for (int64_t i = 0; i < count; i++) {
        float *row = weights + i * seen, *dRow = dScores + i * seen;
        const int64_t visible = first + i + 1;
        const float logSum = logSums[first + i];
        expAndSum(row, logSum, visible);
        // Of these very numbers, not of the result's: then the differences add up to zero, and rounding that all of a
        // row's share cancels.
        const float shift = dot(row, dRow, visible);
#pragma omp simd
        for (int64_t j = 0; j < visible; j++) dRow[j] = row[j] * (dRow[j] - shift);
        std::fill(row + visible, row + seen, 0.0f);
        std::fill(dRow + visible, dRow + seen, 0.0f);
      }
      multiply(packLeft(byQuery_, byRows<float>(dScores, seen), count, seen), keysAcross, count, width, seen,
               dQuery + first * queryStride, queryStride, false);
      multiply(packLeft(byKey_, byColumns<float>(dScores, seen), seen, count),
               packRight(queriesByWidth_, byColumns(rows, stride), width, count), seen, width, count, dKey, keyStride,
               true);
      multiply(packLeft(byKey_, byColumns<float>(weights, seen), seen, count),
               packRight(queriesByWidth_, byColumns(dRows, contextStride), width, count), seen, width, count, dValue,
               keyStride, true);
    }
  }

 private:
  // Query positions.
  static constexpr int64_t kStripe = kGroupRows<T>;

  Buffer<T> keysByPosition_, keysByWidth_, valuesByPosition_, valuesByWidth_, queries_, queriesByWidth_, byQuery_, byKey_;
  Buffer<float> scores_, dScores_;
};

}  // namespace alice
