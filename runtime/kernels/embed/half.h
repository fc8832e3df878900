// f16 to f32 without the instruction; exact for every value.
#pragma once

#include <cstdint>

namespace hearth::HEARTH_ISA {

static inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half >> 15) << 31;
  const uint32_t exponent = (half >> 10) & 31, fraction = half & 1023u;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24, exactly
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

}  // namespace hearth::HEARTH_ISA
