// The instruction set that this file is compiled for: vector width, tile shapes and the micro-kernels of matrix products.
// Everything else in this folder is plain C++ that the compiler vectorizes. Each instruction set is a library of its own
// (build.ts), so no function compiled for one can be called by another.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

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

// A register of 32-bit words: floats, or pairs of bfloat16.
typedef uint32_t Words __attribute__((vector_size(kLanes * sizeof(uint32_t))));

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

// The next words of a row as a packed operand holds them: floats, or pairs rounded from two floats each.
inline Words loadWords(const float* from, const float*) {
  Words result;
  memcpy(&result, from, sizeof result);
  return result;
}
#if defined(__AVX512BF16__)
inline Words loadWords(const float* from, const Bf16*) {
  return (Words)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + kLanes), _mm512_loadu_ps(from));
}
#endif
inline Words loadWords(const Bf16* from, const Bf16*) {
  Words result;
  memcpy(&result, from, sizeof result);
  return result;
}

template <int Distance, int... I>
inline void exchange(Words& a, Words& b, std::integer_sequence<int, I...>) {
  const Words low = __builtin_shufflevector(a, b, ((I & Distance) ? kLanes + I - Distance : I)...);
  b = __builtin_shufflevector(a, b, ((I & Distance) ? kLanes + I : I + Distance)...);
  a = low;
}

// Turns as many registers as they have words: word j of register i becomes word i of register j.
template <int Distance = kLanes / 2>
inline void transpose(Words (&block)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++)
    if ((i & Distance) == 0)
      exchange<Distance>(block[i], block[i + Distance], std::make_integer_sequence<int, kLanes>());
  if constexpr (Distance > 1) transpose<Distance / 2>(block);
}

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
