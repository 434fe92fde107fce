// Which instruction sets this processor and its system can run. Compiled for every processor of the architecture.
#pragma once
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace alice {

#if defined(__x86_64__)
// Tiles and their bf16 products. The registers are large, so Linux gives them to processes that ask for them only: the
// permission is for all threads and stays. Older systems and some containers refuse.
inline bool hasAmx() {
#if defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned bf16 = 1u << 22, tile = 1u << 24;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & bf16) == 0 || (d & tile) == 0) return false;
  // That the system keeps tile registers (18) and their configuration (17). XGETBV: AVX-512 was found before.
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low >> 17 & 3) != 3) return false;
  constexpr long requestPermission = 0x1023, tileData = 18;
  return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
#else
  return false;
#endif
}
#endif

#if defined(__aarch64__)
inline bool hasArmBf16() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP2) & 1ul << 14) != 0;
#elif defined(__APPLE__)
  int has = 0;
  size_t size = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &size, nullptr, 0) == 0 && has == 1;
#else
  return false;
#endif
}
#endif

// By the names of instruction-sets.ts.
inline std::vector<const char*> supportedInstructionSets() {
  std::vector<const char*> names = {"portable"};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  const bool avx512bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (avx2) names.push_back("avx2");
  if (avx512) names.push_back("avx512");
  if (avx512bf16) names.push_back("avx512bf16");
  if (avx512bf16) names.push_back("amx-emulated");
  if (avx512bf16 && hasAmx()) names.push_back("amx");
#elif defined(__aarch64__)
  if (hasArmBf16()) names.push_back("armbf16");
#endif
  return names;
}

}  // namespace alice
