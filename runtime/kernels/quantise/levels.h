// The nearest levels of 16 weights, as all searches take them (compiler/quantize/search.py: cells).
#pragma once

#include "arithmetic.h"
#include "quantise/grid.h"

namespace hearth::HEARTH_ISA {

static inline float half_steps(float scale) { return scale > 0.0f ? 2.0f / scale : 0.0f; }

static inline int cell(float w, float twice) {
  const float x = w * twice + 256.0f;
  return static_cast<int>(x < 0.0f ? 0.0f : x > 511.0f ? 511.0f : x);
}

[[gnu::always_inline]] static inline F32x16 levels16(const int8_t* values, F32x16 w, float twice) {
  const F32x16 x = min16(max16(w * twice + 256.0f, splat(0.0f)), splat(511.0f));
  int32_t at[16];
  store16(reinterpret_cast<float*>(at), bits_to_float(to_int(x)));
  const I8x16 found = {values[at[0]],  values[at[1]],  values[at[2]],  values[at[3]], values[at[4]],  values[at[5]],
                       values[at[6]],  values[at[7]],  values[at[8]],  values[at[9]], values[at[10]], values[at[11]],
                       values[at[12]], values[at[13]], values[at[14]], values[at[15]]};
  return to_float(widen(found));
}

static inline float to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

}  // namespace hearth::HEARTH_ISA
