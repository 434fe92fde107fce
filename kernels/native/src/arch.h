// The instruction set that this file is compiled for: vector width, tile shapes and the micro-kernels of matrix products.
// Everything else in this folder is plain C++ that the compiler vectorizes. Each instruction set is a library of its own
// (build.ts), so no function compiled for one can be called by another.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace alice {

#if defined(__AVX512F__)
constexpr int kLanes = 16;     // floats per register, of which there are 32
constexpr int kTileRows = 14;  // 28 accumulators, two of B, one of A
#elif defined(__AVX__)
constexpr int kLanes = 8;  // 16 registers
constexpr int kTileRows = 6;
#elif defined(__aarch64__)
constexpr int kLanes = 4;  // 32 registers
constexpr int kTileRows = 12;
#else
constexpr int kLanes = 4;  // 16 registers
constexpr int kTileRows = 6;
#endif
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kLanes;

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));

inline Vector loadVector(const float* from) {
  Vector result;
  memcpy(&result, from, sizeof result);
  return result;
}
inline void storeVector(float* to, Vector value) { memcpy(to, &value, sizeof value); }

// A bfloat16: the upper half of a float.
struct Bf16 {
  uint16_t bits;
};

inline float toFloat(float value) { return value; }
inline float toFloat(Bf16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

// Rounds to the nearest bfloat16, ties to even; a NaN stays one. In the upper half of the result, the rest is garbage.
inline uint32_t roundedBits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return (bits & 0x7fffffff) > 0x7f800000 ? bits | 0x00400000 : rounded;
}
inline void store(float* to, float value) { *to = value; }
inline void store(Bf16* to, float value) { to->bits = uint16_t(roundedBits(value) >> 16); }

// How many neighbours along the reduced dimension a packed operand holds side by side: what one instruction reduces.
template <class T>
struct Packing;
template <>
struct Packing<float> {
  static constexpr int depth = 1;
};
template <>
struct Packing<Bf16> {
  static constexpr int depth = 2;
};

#if defined(__AVX512BF16__)
constexpr bool kHasBf16 = true;
#else
constexpr bool kHasBf16 = false;
#endif

// One tile of a product: `tile = A B` for packed panels A [steps][kTileRows][depth] and B [steps][kTileColumns][depth].
// The whole tile stays in registers: the loops over it unroll into straight code.
inline void multiplyTile(int64_t steps, const float* a, const float* b, Vector (&tile)[kTileRows][kTileVectors]) {
  Vector sum[kTileRows][kTileVectors] = {};
  for (int64_t step = 0; step < steps; step++, a += kTileRows, b += kTileColumns) {
    Vector right[kTileVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kTileVectors; j++) right[j] = loadVector(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < kTileVectors; j++) sum[i][j] += a[i] * right[j];
  }
  memcpy(tile, sum, sizeof sum);
}

#if defined(__AVX512BF16__)
inline void multiplyTile(int64_t steps, const Bf16* a, const Bf16* b, Vector (&tile)[kTileRows][kTileVectors]) {
  __m512 sum[kTileRows][kTileVectors] = {};
  for (int64_t step = 0; step < steps; step++, a += 2 * kTileRows, b += 2 * kTileColumns) {
    __m512bh right[kTileVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kTileVectors; j++) right[j] = (__m512bh)_mm512_loadu_si512(b + 2 * j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; i++) {
      int32_t pair;
      memcpy(&pair, a + 2 * i, sizeof pair);
      const __m512bh left = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
      for (int j = 0; j < kTileVectors; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], left, right[j]);
    }
  }
  memcpy(tile, sum, sizeof sum);
}
#endif

}  // namespace alice
