// quantize(x) of docs/arithmetic.md over a row given as 16-lane vectors, compiled once per ISA.
#pragma once

#include "arithmetic.h"

namespace hearth::HEARTH_ISA {

constexpr float kSmallest = 0x1p-100f;  // rows whose largest value lies below are coded as zeros

// max abs of n values; value(i) gives the 16 lanes from i, +0 beyond n.
template <class F>
static inline float max_abs(int64_t n, F value) {
  F32x16 most{};
  for (int64_t i = 0; i < n; i += 16) most = max16(most, abs16(value(i)));
  return reduce_max(most);
}

static inline I8x16 codes16(F32x16 x, float inverse) {
  return narrow(to_int(rint16(x * inverse)));
}

static inline float inverse_scale(float most) { return most < kSmallest ? 0.0f : 127.0f / most; }
static inline float scale_of(float most) { return most < kSmallest ? 0.0f : most / 127.0f; }

}  // namespace hearth::HEARTH_ISA
