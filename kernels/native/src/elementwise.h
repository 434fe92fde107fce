// Row-wise and elementwise arithmetic in float32, as loops that the compiler turns into vector code.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace alice {

// exp(x) to about 1e-7 relative, 0 below -87; NaN stays NaN. Cephes' polynomial, so that it vectorizes.
inline float expOf(float x) {
  const float bounded = x > 88.0f ? 88.0f : x;
  const float clamped = bounded < -87.0f ? -87.0f : bounded;
  const float n = __builtin_rintf(clamped * 1.44269504088896341f);
  float r = clamped - n * 0.693359375f;
  r -= n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // A NaN has no integer; it is in p already.
  const int32_t exponent = n == n ? int32_t(n) : 0;
  const int32_t bits = (exponent + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return x < -87.0f ? 0.0f : p * power;
}

inline float dot(const float* a, const float* b, int64_t length) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < length; i++) sum += a[i] * b[i];
  return sum;
}

inline float largest(const float* values, int64_t length) {
  float result = values[0];
#pragma omp simd reduction(max : result)
  for (int64_t i = 0; i < length; i++) result = values[i] > result ? values[i] : result;
  return result;
}

// values[i] = exp(values[i] - shift); returns their sum.
inline float expAndSum(float* values, float shift, int64_t length) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < length; i++) {
    values[i] = expOf(values[i] - shift);
    sum += values[i];
  }
  return sum;
}

// A sum of exponentials, relative to the largest exponent so far.
struct RunningSum {
  float most, sum;

  void add(float otherMost, float otherSum) {
    const float larger = otherMost > most ? otherMost : most;
    sum = sum * expOf(most - larger) + otherSum * expOf(otherMost - larger);
    most = larger;
  }
  float logSum() const { return most + std::log(sum); }
};

// 1 / sqrt(mean(x^2) + epsilon)
inline float inverseRms(const float* x, int64_t width, float epsilon) {
  return 1.0f / std::sqrt(dot(x, x, width) / float(width) + epsilon);
}

inline void rmsNormRow(const float* x, const float* weight, float* y, int64_t width, float epsilon) {
  const float r = inverseRms(x, width, epsilon);
#pragma omp simd
  for (int64_t i = 0; i < width; i++) y[i] = x[i] * r * weight[i];
}

// With n = x r: dx (= or +=) r (dy w - n mean(dy w n)), dw += dy n.
inline void rmsNormRowBackward(const float* x, const float* weight, const float* dy, float* dx, float* dw, int64_t width,
                               float epsilon, bool accumulate) {
  const float r = inverseRms(x, width, epsilon);
  float product = 0;
#pragma omp simd reduction(+ : product)
  for (int64_t i = 0; i < width; i++) product += dy[i] * weight[i] * x[i];
  const float mean = product * r / float(width);
#pragma omp simd
  for (int64_t i = 0; i < width; i++) {
    const float n = x[i] * r;
    const float change = r * (dy[i] * weight[i] - n * mean);
    dw[i] += dy[i] * n;
    dx[i] = accumulate ? dx[i] + change : change;
  }
}

// y = silu(gate) up
inline void swiGluRow(const float* gate, const float* up, float* y, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; i++) y[i] = gate[i] / (1.0f + expOf(-gate[i])) * up[i];
}

inline void swiGluRowBackward(const float* gate, const float* up, const float* dy, float* dGate, float* dUp,
                              int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; i++) {
    const float sigmoid = 1.0f / (1.0f + expOf(-gate[i]));
    dUp[i] = dy[i] * gate[i] * sigmoid;
    dGate[i] = dy[i] * up[i] * sigmoid * (1.0f + gate[i] * (1.0f - sigmoid));
  }
}

// Rotates pairs (i, i + half) by the angle of a position, times `scale`; backwards for a negative direction.
inline void rotate(float* head, const float* cosine, const float* sine, int64_t half, float scale, float direction) {
#pragma omp simd
  for (int64_t i = 0; i < half; i++) {
    const float a = head[i] * scale, b = head[half + i] * scale, s = sine[i] * direction;
    head[i] = a * cosine[i] - b * s;
    head[half + i] = b * cosine[i] + a * s;
  }
}

}  // namespace alice
