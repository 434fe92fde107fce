// The tile operations of amx.h on a processor with AVX-512, for tests: with the instruction's own arithmetic, and an end
// of the process where the processor would fault.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace alice {
namespace amx {

constexpr int kRows = 16, kPairs = 16;
typedef uint32_t Row __attribute__((vector_size(4 * kPairs)));

struct Tiles {
  bool configured = false;
  uint32_t words[8][kRows][kPairs];
};
inline Tiles& tiles() {
  static thread_local Tiles state;
  return state;
}
inline uint32_t (&words(int tile))[kRows][kPairs] {
  if (!tiles().configured) abort();
  return tiles().words[tile];
}

inline void configure() {
  tiles().configured = true;
  memset(tiles().words, 0, sizeof tiles().words);
}
inline void release() { tiles().configured = false; }

template <int Tile>
void zero() {
  memset(words(Tile), 0, sizeof words(Tile));
}
template <int Tile>
void load(const void* from, int64_t stride) {
  for (int row = 0; row < kRows; row++)
    memcpy(words(Tile)[row], static_cast<const char*>(from) + row * stride, sizeof words(Tile)[row]);
}
template <int Tile>
void store(void* to, int64_t stride) {
  for (int row = 0; row < kRows; row++)
    memcpy(static_cast<char*>(to) + row * stride, words(Tile)[row], sizeof words(Tile)[row]);
}

// As Intel's manual describes TDPBF16PS: even and odd elements are summed up apart by fused operations, then together,
// and then added; to the nearest, ties to even, and numbers below the normal ones are zero.
template <int Sum, int A, int B>
void multiplyAdd() {
  const unsigned control = _mm_getcsr();
  _mm_setcsr(0x1f80 | 0x8040);  // all exceptions masked, nearest; denormal operands and results are zero
  for (int row = 0; row < kRows; row++) {
    __m512 even = {}, odd = {};
    for (int pair = 0; pair < kPairs; pair++) {
      Row b;
      memcpy(&b, words(B)[pair], sizeof b);
      const Row a = b - b + words(A)[row][pair];
      even = _mm512_fmadd_ps((__m512)(a << 16), (__m512)(b << 16), even);
      odd = _mm512_fmadd_ps((__m512)(a & 0xffff0000u), (__m512)(b & 0xffff0000u), odd);
    }
    uint32_t* to = words(Sum)[row];
    const __m512 both = _mm512_add_ps(even, odd);
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), both));
  }
  _mm_setcsr(control);
}

}  // namespace amx
}  // namespace alice
