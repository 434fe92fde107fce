// Sums of squares and AdamW over a flat vector, by all threads. Groups of elements are fixed, so that sums are too.
#pragma once
#include <cmath>

#include "gemm.h"

namespace alice {

constexpr int64_t kElementsPerTask = 1 << 16;

// In float64: NaN or infinity if the values hold one.
inline double sumOfSquares(Pool& pool, const float* values, int64_t length) {
  const int64_t tasks = ceilDivide(length, kElementsPerTask);
  std::vector<double> partial(static_cast<size_t>(tasks));
  pool.run(tasks, [&](int64_t task, int) {
    const float* part = values + task * kElementsPerTask;
    const int64_t count = std::min(kElementsPerTask, length - task * kElementsPerTask);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += double(part[i]) * double(part[i]);
    partial[size_t(task)] = sum;
  });
  double sum = 0;
  for (const double part : partial) sum += part;
  return sum;
}

// As kernels/train/adamw.ts, in float32.
struct AdamWConstants {
  float beta1, beta2, epsilon, clip, meanCorrection, squareCorrection, keep;
};

inline void adamW(Pool& pool, float* weights, const float* gradient, float* mean, float* square, int64_t length,
                  const AdamWConstants& c) {
  pool.run(ceilDivide(length, kElementsPerTask), [&](int64_t task, int) {
    const int64_t first = task * kElementsPerTask, end = std::min(length, first + kElementsPerTask);
#pragma omp simd
    for (int64_t i = first; i < end; i++) {
      const float g = gradient[i] * c.clip;
      const float m = c.beta1 * mean[i] + (1 - c.beta1) * g;
      const float v = c.beta2 * square[i] + (1 - c.beta2) * g * g;
      mean[i] = m;
      square[i] = v;
      weights[i] = weights[i] * c.keep - c.meanCorrection * m / (std::sqrt(v * c.squareCorrection) + c.epsilon);
    }
  });
}

}  // namespace alice
