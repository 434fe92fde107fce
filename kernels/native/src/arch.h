// The instruction set that this file is compiled for: vector width, tile shapes and the micro-kernels of matrix products.
// Everything else in this folder is plain C++ that the compiler vectorizes. Each instruction set is a library of its own
// (build.ts), so no function compiled for one can be called by another.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512BF16__)
#define ALICE_HAS_BF16 1
#include <immintrin.h>
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define ALICE_HAS_BF16 1
#include <arm_neon.h>
#else
#define ALICE_HAS_BF16 0
#endif

#if defined(ALICE_EMULATE_AMX)
#define ALICE_HAS_AMX 1
#include "amx-emulated.h"
#elif defined(__AMX_BF16__)
#define ALICE_HAS_AMX 1
#include "amx.h"
#else
#define ALICE_HAS_AMX 0
#endif

namespace alice {

constexpr bool kHasBf16 = ALICE_HAS_BF16;

#if defined(__AVX512F__)
constexpr int kLanes = 16;       // floats per register, of which there are 32
constexpr int kVectorRows = 14;  // 28 accumulators, two of B, one of A
#elif defined(__AVX__)
constexpr int kLanes = 8;  // 16 registers
constexpr int kVectorRows = 6;
#elif defined(__aarch64__)
constexpr int kLanes = 4;  // 32 registers
constexpr int kVectorRows = 12;
#else
constexpr int kLanes = 4;  // 16 registers
constexpr int kVectorRows = 6;
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

// How a tile of a product looks, and the packed operands that the micro-kernel for T reads. They consist of words of 32
// bits, along the reduced dimension: floats, or pairs of bfloat16, which one instruction multiplies and adds.
template <class T>
struct Packing {
  static constexpr int rows = kVectorRows;
  // Elements of a word.
  static constexpr int depth = sizeof(float) / sizeof(T);
  // Words of one row of the left operand that lie side by side: one, as its rows are broadcast word by word, or those of
  // a whole register. The reduced dimension is filled up with zeros to such a run.
  static constexpr int run = 1;
  // Panels of rows that go through the caches together.
  static constexpr int group = 8;
};
#if ALICE_HAS_AMX
// Two by two tile registers; those of the left operand hold 16 rows of 16 pairs.
template <>
struct Packing<Bf16> {
  static constexpr int rows = 32;
  static constexpr int depth = 2;
  static constexpr int run = 16;
  static constexpr int group = 4;
};
#endif
template <class T>
constexpr int kTileRows = Packing<T>::rows;
// Rows of whole panels that go through the caches together.
template <class T>
constexpr int64_t kGroupRows = Packing<T>::group * kTileRows<T>;

// What a thread holds while it multiplies.
template <class T>
struct Multiplying {};
#if ALICE_HAS_AMX
template <>
struct Multiplying<Bf16> {
  Multiplying() { amx::configure(); }
  ~Multiplying() { amx::release(); }
};
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
#elif ALICE_HAS_BF16
inline Words loadWords(const float* from, const Bf16*) {
  return (Words)vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(vld1q_f32(from)), vld1q_f32(from + kLanes));
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

// One tile of a product: `tile = A B` for packed panels A [steps][kTileRows] (in runs, for which see Packing) and
// B [steps][kTileColumns] of words. The whole tile stays in registers: the loops over it unroll into straight code.
template <class T>
using TileSums = Vector[kTileRows<T>][kTileVectors];

inline void multiplyTile(int64_t steps, const float* a, const float* b, TileSums<float>& tile) {
  TileSums<float> sum = {};
  for (int64_t step = 0; step < steps; step++, a += kTileRows<float>, b += kTileColumns) {
    Vector right[kTileVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kTileVectors; j++) right[j] = loadVector(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows<float>; i++)
#pragma GCC unroll 4
      for (int j = 0; j < kTileVectors; j++) sum[i][j] += a[i] * right[j];
  }
  memcpy(tile, sum, sizeof sum);
}

#if ALICE_HAS_AMX
inline void multiplyTile(int64_t steps, const Bf16* a, const Bf16* b, TileSums<Bf16>& tile) {
  constexpr int rows = 16, pairs = 16, width = 4 * kTileColumns;  // of a register; bytes of a step of B
  static_assert(kLanes == 16 && sizeof tile[0] == width, "a tile register is as wide as a vector");
  amx::zero<0>();
  amx::zero<1>();
  amx::zero<2>();
  amx::zero<3>();
  for (int64_t step = 0; step < steps; step += pairs, a += 2 * pairs * kTileRows<Bf16>, b += 2 * pairs * kTileColumns) {
    amx::load<4>(a, 4 * pairs);
    amx::load<5>(a + 2 * pairs * rows, 4 * pairs);
    amx::load<6>(b, width);
    amx::load<7>(b + 2 * kLanes, width);
    amx::multiplyAdd<0, 4, 6>();
    amx::multiplyAdd<1, 4, 7>();
    amx::multiplyAdd<2, 5, 6>();
    amx::multiplyAdd<3, 5, 7>();
  }
  char* to = reinterpret_cast<char*>(&tile);
  amx::store<0>(to, width);
  amx::store<1>(to + width / 2, width);
  amx::store<2>(to + rows * width, width);
  amx::store<3>(to + rows * width + width / 2, width);
}
#elif ALICE_HAS_BF16
#if defined(__AVX512BF16__)
typedef __m512bh Pairs;
inline Pairs loadPairs(const Bf16* from) { return (Pairs)_mm512_loadu_si512(from); }
inline Pairs broadcastPair(int32_t pair) { return (Pairs)_mm512_set1_epi32(pair); }
inline Vector addPairs(Vector sum, Pairs a, Pairs b) { return (Vector)_mm512_dpbf16_ps((__m512)sum, a, b); }
#else
typedef bfloat16x8_t Pairs;
inline Pairs loadPairs(const Bf16* from) { return vld1q_bf16(reinterpret_cast<const bfloat16_t*>(from)); }
inline Pairs broadcastPair(int32_t pair) { return vreinterpretq_bf16_s32(vdupq_n_s32(pair)); }
inline Vector addPairs(Vector sum, Pairs a, Pairs b) { return (Vector)vbfdotq_f32((float32x4_t)sum, a, b); }
#endif

inline void multiplyTile(int64_t steps, const Bf16* a, const Bf16* b, TileSums<Bf16>& tile) {
  TileSums<Bf16> sum = {};
  for (int64_t step = 0; step < steps; step++, a += 2 * kTileRows<Bf16>, b += 2 * kTileColumns) {
    Pairs right[kTileVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kTileVectors; j++) right[j] = loadPairs(b + 2 * j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows<Bf16>; i++) {
      int32_t pair;
      memcpy(&pair, a + 2 * i, sizeof pair);
      const Pairs left = broadcastPair(pair);
#pragma GCC unroll 4
      for (int j = 0; j < kTileVectors; j++) sum[i][j] = addPairs(sum[i][j], left, right[j]);
    }
  }
  memcpy(tile, sum, sizeof sum);
}
#endif

}  // namespace alice
