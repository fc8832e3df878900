// quantize(x) of docs/arithmetic.md over a row given as 16-lane vectors, compiled once per ISA.
#pragma once

#include "arithmetic.h"

namespace hearth::HEARTH_ISA {

constexpr float kSmallest = 0x1p-100f;  // rows whose largest value lies below are coded as zeros

// max abs of n values, by their bits, so that a NaN is the largest; value(i) gives the 16 lanes from i, +0 beyond n.
template <class F>
static inline float max_abs(int64_t n, F value) {
  I32x16 most{};
  for (int64_t i = 0; i < n; i += 16) {
    const I32x16 magnitude = bits_of(value(i)) & 0x7fffffff;
    most = select16(magnitude > most, magnitude, most);
  }
  const int32_t bits = reduce_max_int(most);
  float largest;
  __builtin_memcpy(&largest, &bits, 4);
  return largest;
}

static inline I8x16 codes16(F32x16 x, float inverse) {
  return narrow(to_int(rint16(x * inverse)));
}

static inline float inverse_scale(float most) { return most < kSmallest ? 0.0f : 127.0f / most; }
static inline float scale_of(float most) { return most < kSmallest ? 0.0f : most / 127.0f; }

// One record of quantised activations (docs/layouts.md), its padding zero; value as above.
template <class F>
static inline void write_record(char* record, int64_t n, F value) {
  const Q8Row layout(n);
  const float most = max_abs(n, value), inverse = inverse_scale(most);
  int8_t* codes = reinterpret_cast<int8_t*>(record);
  int32_t* sums = reinterpret_cast<int32_t*>(record + layout.sums());
  for (int64_t i = 0; i < layout.columns; i += 32) {
    I32x16 sum{};
    for (int64_t j = i; j < i + 32; j += 16) {
      const I8x16 c = j < n ? codes16(value(j), inverse) : I8x16{};
      __builtin_memcpy(codes + j, &c, 16);
      sum = sum + widen(c);
    }
    sums[i / 32] = reduce_add_int(sum);
  }
  __builtin_memset(record + layout.scale(), 0, layout.stride() - layout.scale());
  const float scale = scale_of(most);
  __builtin_memcpy(record + layout.scale(), &scale, 4);
}

}  // namespace hearth::HEARTH_ISA
