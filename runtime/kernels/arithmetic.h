// The float definitions of docs/arithmetic.md over 16 lanes, compiled once per ISA.
//
// Everything lies in namespace hearth::HEARTH_ISA and is static, so that no inline function compiled for one
// ISA can be picked by the linker for another. Include no standard header with inline code from *_simd.cc.
#pragma once

#include "kernel.h"
#include "lanes.h"

namespace hearth::HEARTH_ISA {

// Row m of an operand.
template <class T>
static inline T* row(const Command& command, int operand, int64_t m) {
  return reinterpret_cast<T*>(static_cast<char*>(command.operand[operand]) + m * command.stride[operand]);
}

// V is F32x16, or several of them as pairs: long chains of operations on one vector leave a core idle.
template <class V>
static inline V filled(float x) {
  return V{} + x;
}
template <class V>
static inline V max16(V a, V b) {
  return select16(a > b, a, b);
}
template <class V>
static inline V min16(V a, V b) {
  return select16(a < b, a, b);
}
static inline F32x16 abs16(F32x16 a) { return bits_to_float(bits_of(a) & 0x7fffffff); }

// Round to nearest even for |x| < 2^22.
template <class V>
static inline V rint16(V x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23
  return (x + magic) - magic;
}

template <class V>
static inline V exp16(V x) {
  x = min16(max16(x, filled<V>(-87.0f)), filled<V>(88.0f));
  const V n = rint16(x * 1.44269504f);
  V r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V p = filled<V>(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * (r * r) + r) + 1.0f;
  return p * bits_to_float((to_int(n) + 127) << 23);
}

template <class V>
static inline V silu16(V x) {
  return x / (exp16(-x) + 1.0f);
}

}  // namespace hearth::HEARTH_ISA
