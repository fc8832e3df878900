// The float definitions of docs/arithmetic.md over 16-lane vectors, compiled once per ISA.
//
// Everything lies in namespace hearth::HEARTH_ISA and is static, so that no inline function compiled for one
// ISA can be picked by the linker for another. Include no standard header with inline code from *_simd.cc.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace hearth::HEARTH_ISA {

typedef float F32x16 __attribute__((vector_size(64), aligned(64)));
typedef float F32x16u __attribute__((vector_size(64), aligned(4)));  // unaligned memory
typedef int32_t I32x16 __attribute__((vector_size(64), aligned(64)));
typedef int8_t I8x16 __attribute__((vector_size(16), aligned(16)));

// Row m of an operand.
template <class T>
static inline T* row(const Command& command, int operand, int64_t m) {
  return reinterpret_cast<T*>(static_cast<char*>(command.operand[operand]) + m * command.stride[operand]);
}

static inline F32x16 load16(const float* p) { return *reinterpret_cast<const F32x16u*>(p); }
static inline void store16(float* p, F32x16 v) { *reinterpret_cast<F32x16u*>(p) = v; }
static inline F32x16 splat(float x) { return F32x16{} + x; }

// The first n lanes from memory, the others +0.
static inline F32x16 load_some(const float* p, int64_t n) {
  F32x16 v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
static inline void store_some(float* p, F32x16 v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}
static inline F32x16 load_upto(const float* p, int64_t n) { return n >= 16 ? load16(p) : load_some(p, n); }
static inline void store_upto(float* p, F32x16 v, int64_t n) {
  if (n >= 16) store16(p, v);
  else store_some(p, v, n);
}

static inline F32x16 max16(F32x16 a, F32x16 b) { return a > b ? a : b; }
static inline F32x16 min16(F32x16 a, F32x16 b) { return a < b ? a : b; }
static inline F32x16 abs16(F32x16 a) { return (F32x16)((I32x16)a & 0x7fffffff); }

// The fixed reduction tree of sum16.
static inline float reduce_add(F32x16 p) {
  for (int h = 8; h > 0; h /= 2)
    for (int j = 0; j < h; ++j) p[j] = p[j] + p[j + h];
  return p[0];
}
static inline float reduce_max(F32x16 p) {
  for (int h = 8; h > 0; h /= 2)
    for (int j = 0; j < h; ++j) p[j] = p[j] > p[j + h] ? p[j] : p[j + h];
  return p[0];
}
static inline int32_t reduce_add_int(I32x16 p) {
  for (int h = 8; h > 0; h /= 2)
    for (int j = 0; j < h; ++j) p[j] = p[j] + p[j + h];
  return p[0];
}

// Round to nearest even for |x| < 2^22.
static inline F32x16 rint16(F32x16 x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23
  return (x + magic) - magic;
}

static inline F32x16 exp16(F32x16 x) {
  x = min16(max16(x, splat(-87.0f)), splat(88.0f));
  const F32x16 n = rint16(x * 1.44269504f);
  F32x16 r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  F32x16 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * (r * r) + r) + 1.0f;
  const I32x16 bits = (__builtin_convertvector(n, I32x16) + 127) << 23;
  return p * (F32x16)bits;
}

static inline F32x16 silu16(F32x16 x) { return x / (exp16(-x) + 1.0f); }

}  // namespace hearth::HEARTH_ISA
