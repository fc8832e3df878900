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
  return larger(a, b);
}
template <class V>
static inline V min16(V a, V b) {
  return smaller(a, b);
}
template <class V>
static inline V abs16(V a) {
  return bits_to_float(bits_of(a) & 0x7fffffff);
}
// The magnitude of a with the sign of b; a is not negative.
template <class V>
static inline V with_sign16(V a, V b) {
  return bits_to_float(bits_of(a) | (bits_of(b) & int32_t(-0x7fffffff - 1)));
}

constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23: x + this has the whole number in its last bits

// Round to nearest even for |x| < 2^22.
template <class V>
static inline V rint16(V x) {
  return (x + kRounding) - kRounding;
}

// (((first * x + rest[0]) * x + rest[1]) ..
template <class V, class... Rest>
static inline V polynomial(V x, float first, Rest... rest) {
  V p = filled<V>(first);
  ((p = p * x + float(rest)), ...);
  return p;
}

// exp of what lies in [-87, 88], or is a NaN.
template <class V>
static inline V exp16_within(V x) {
  const V shifted = x * 1.44269504f + kRounding, n = shifted - kRounding;
  V r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V p = polynomial(r, 1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                   5.0000001201e-1f);
  p = (p * (r * r) + r) + 1.0f;
  return p * bits_to_float(bits_of(shifted + 127.0f) << 23);  // 2^n: the last bits are n + 127
}

// max16 and min16 give their second operand where one is a NaN: a NaN stays one.
template <class V>
static inline V exp16(V x) {
  return exp16_within(min16(filled<V>(88.0f), max16(filled<V>(-87.0f), x)));
}

template <class V>
static inline V sigmoid16(V x) {
  return 1.0f / (exp16(-x) + 1.0f);
}

template <class V>
static inline V silu16(V x) {
  return x / (exp16(-x) + 1.0f);
}

template <class V>
static inline V erf16(V x) {
  const V t = abs16(x);
  const V small = t + t * polynomial(t * t, 7.806903e-5f, -7.997853e-4f, 5.187162e-3f, -2.6853347e-2f, 1.1283579e-1f,
                                     -3.7612626e-1f, 1.2837917e-1f);
  const V far = polynomial(min16(filled<V>(4.0f), t), 1.8558027e-4f, -2.9396585e-3f, 2.1805484e-2f, -1.0303764e-1f,
                           -6.3822544e-1f, -1.1270401f, -3.536976e-4f);
  return with_sign16(select16(t >= filled<V>(1.0f), 1.0f - exp16_within(far), small), x);  // far is in [-18, 0]
}

template <class V>
static inline V tanh16(V x) {
  const V t = abs16(x), z = x * x;
  const V small =
      t + t * (z * polynomial(z, -5.692296e-3f, 2.0628167e-2f, -5.3736515e-2f, 1.3331406e-1f, -3.333328e-1f));
  const V large = 1.0f - 2.0f / (exp16(t + t) + 1.0f);
  return with_sign16(select16(t >= filled<V>(0.625f), large, small), x);
}

template <class V>
static inline V soft_cap16(V x, float cap) {
  return tanh16(x / cap) * cap;
}

template <class V>
static inline V gelu16(V x) {
  return (x * 0.5f) * (erf16(x * 0.70710678f) + 1.0f);
}

template <class V>
static inline V gelu_tanh16(V x) {
  return x / (exp16(-(x * ((x * x) * 0.071354816f + 1.5957691f))) + 1.0f);
}

template <class V>
static inline V relu16(V x) {
  return select16(x < V{}, V{}, x);
}

// One of Activation; x as it is for those that are not of one value.
template <class V>
static inline V activate16(V x, int activation) {
  switch (activation) {
    case kSilu: return silu16(x);
    case kGelu: return gelu16(x);
    case kGeluTanh: return gelu_tanh16(x);
    case kRelu: return relu16(x);
    case kTanh: return tanh16(x);
    case kSigmoid: return sigmoid16(x);
    default: return x;
  }
}

}  // namespace hearth::HEARTH_ISA
