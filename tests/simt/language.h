// The words of CUDA C++ that are neither C++ nor collectives: qualifiers, vector types, intrinsics of
// one thread. Only what the kernels may use is here; anything else fails to compile.
#pragma once

#include <math.h>

#include <bit>
#include <cstdint>

#include "executor.h"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))

// ---- vectors, aligned so that one is one access ------------------------------------------------

#define SIMT_VECTORS(T, name)                                                        \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                 \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; }; \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                         \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

SIMT_VECTORS(float, float)
SIMT_VECTORS(double, double)
SIMT_VECTORS(int, int)
SIMT_VECTORS(unsigned, uint)
SIMT_VECTORS(unsigned short, ushort)
SIMT_VECTORS(long long, longlong)
#undef SIMT_VECTORS

// ---- arithmetic --------------------------------------------------------------------------------

#define SIMT_MIN_MAX(T)                               \
  constexpr T min(T a, T b) { return b < a ? b : a; } \
  constexpr T max(T a, T b) { return a < b ? b : a; }

SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX

// As on the device, of a number and a NaN these are the number.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }

// ---- memory ------------------------------------------------------------------------------------

template <class T>
T __ldg(const T* address) {
  return *address;
}

// Nothing runs beside a thread, so these are atomic as they stand.
template <class T, class Change>
T simt_exchange(T* address, const Change& change) {
  const T old = *address;
  *address = change(old);
  return old;
}

inline int atomicAdd(int* address, int value) {
  return simt_exchange(address, [value](int old) {
    return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value));
  });
}
inline unsigned atomicAdd(unsigned* address, unsigned value) {
  return simt_exchange(address, [value](unsigned old) { return old + value; });
}
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  return simt_exchange(address, [value](unsigned long long old) { return old + value; });
}
inline int atomicMax(int* address, int value) {
  return simt_exchange(address, [value](int old) { return max(old, value); });
}
inline unsigned atomicMax(unsigned* address, unsigned value) {
  return simt_exchange(address, [value](unsigned old) { return max(old, value); });
}
inline int atomicMin(int* address, int value) {
  return simt_exchange(address, [value](int old) { return min(old, value); });
}
inline unsigned atomicMin(unsigned* address, unsigned value) {
  return simt_exchange(address, [value](unsigned old) { return min(old, value); });
}
