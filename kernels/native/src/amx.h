// The tile operations of AMX that the micro-kernel needs. As assembly, because the compilers' own functions take tile
// numbers as literals only, and GCC's do not say that a load reads memory.
#pragma once
#include <cstdint>

namespace alice {
namespace amx {

// As LDTILECFG reads it: eight tiles of 16 rows of 64 bytes.
struct alignas(64) Configuration {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t rowBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Configuration) == 64, "LDTILECFG reads 64 bytes");

// A thread that holds tiles has 8 KiB more to save when it is interrupted: they are released after each product.
inline void configure() {
  static constexpr Configuration configuration;
  asm volatile("ldtilecfg %0" ::"m"(configuration));
}
inline void release() { asm volatile("tilerelease" ::: "memory"); }

template <int Tile>
inline void zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(Tile));
}
// 16 rows of 64 bytes, `stride` bytes apart.
template <int Tile>
inline void load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(Tile) : "memory");
}
template <int Tile>
inline void store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(Tile) : "memory");
}
// sum += A B, pair by pair: A has rows of 16 pairs, B has 16 rows of pairs.
template <int Sum, int A, int B>
inline void multiplyAdd() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(A), "i"(B));
}

}  // namespace amx
}  // namespace alice
