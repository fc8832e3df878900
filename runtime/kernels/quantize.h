// quantize(x) and quantize_static(x) of docs/arithmetic.md over a row given as 16-lane vectors, compiled once per ISA.
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

// Codes of a fixed scale and zero point. A NaN becomes -127, as what lies below all codes.
struct Fixed {
  float scale, inverse, low, high;  // the edges in steps, before the zero point is added
  int32_t zero;
  explicit Fixed(const float* floats)
      : scale(floats[0]), inverse(1.0f / floats[0]), low(-127.0f - floats[1]), high(127.0f - floats[1]),
        zero(int32_t(floats[1])) {}
  I8x16 operator()(F32x16 x) const {
    const F32x16 steps = min16(max16(x * inverse, filled<F32x16>(low)), filled<F32x16>(high));
    return narrow(to_int(rint16(steps)) + zero);
  }
};

// The codes and sums of a record (docs/layouts.md), their padding zero: codes(i) gives 16 codes from i < n.
template <class F>
static inline void write_codes(char* record, int64_t n, F codes16_at) {
  const Q8Row layout(n);
  int8_t* codes = reinterpret_cast<int8_t*>(record);
  int32_t* sums = reinterpret_cast<int32_t*>(record + layout.sums());
  for (int64_t i = 0; i < layout.columns; i += 32) {
    I32x16 sum{};
    for (int64_t j = i; j < i + 32; j += 16) {
      const I8x16 c = j < n ? codes16_at(j) : I8x16{};
      __builtin_memcpy(codes + j, &c, 16);
      sum = sum + widen(c);
    }
    sums[i / 32] = reduce_add_int(sum);
  }
}

static inline void write_scale(char* record, int64_t n, float scale) {
  const Q8Row layout(n);
  __builtin_memset(record + layout.scale(), 0, layout.stride() - layout.scale());
  __builtin_memcpy(record + layout.scale(), &scale, 4);
}

// One record of quantised activations; value as above.
template <class F>
static inline void write_record(char* record, int64_t n, F value) {
  const float most = max_abs(n, value), inverse = inverse_scale(most);
  write_codes(record, n, [&](int64_t i) { return codes16(value(i), inverse); });
  write_scale(record, n, scale_of(most));
}

// One record of fixed codes, in one pass; its scale is a NaN where a value is not finite.
template <class F>
static inline void write_record(char* record, int64_t n, F value, const Fixed& fixed) {
  F32x16 poison{};
  write_codes(record, n, [&](int64_t i) {
    const F32x16 v = value(i);
    poison = poison + v * 0.0f;
    I8x16 codes = fixed(v);
    if (n - i < 16) {  // beyond n the code is 0, not that of 0.0
      I8x16 kept{};
      __builtin_memcpy(&kept, &codes, n - i);
      codes = kept;
    }
    return codes;
  });
  const float sound = reduce_add(poison);
  write_scale(record, n, sound == sound ? fixed.scale : __builtin_nanf(""));
}

}  // namespace hearth::HEARTH_ISA
