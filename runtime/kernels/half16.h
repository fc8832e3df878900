// 16 half-precision values to and from f32, rounded to nearest even; the same bits with and without the instruction.
#pragma once

#include "arithmetic.h"

namespace hearth::HEARTH_ISA {

static inline F32x16 load_half16(const uint16_t* h) {
#if defined(__AVX512F__)
  return (F32x16)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)h));
#elif defined(__AVX2__)
  return {(F32x8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)h)),
          (F32x8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(h + 8)))};
#else
  int32_t wide[16];
  for (int i = 0; i < 16; ++i) wide[i] = h[i];
  const I32x16 bits = load16_int(wide), magnitude = (bits & 0x7fff) << 13;
  const I32x16 exponent = magnitude & 0x0f800000, shifted = magnitude + (112 << 23);
  const F32x16 subnormal = bits_to_float(shifted + (1 << 23)) - bits_to_float(splat_int(113 << 23));  // exact
  I32x16 value = select16(exponent == 0x0f800000, shifted + (112 << 23), shifted);
  value = select16(exponent == 0, bits_of(subnormal), value);
  return bits_to_float(value | (bits & 0x8000) << 16);
#endif
}

static inline void store_half16(uint16_t* h, F32x16 v) {
#if defined(__AVX512F__)
  const __m256i halves = _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256((__m256i*)h, halves);
#elif defined(__AVX2__)
  _mm_storeu_si128((__m128i*)h, _mm256_cvtps_ph((__m256)v.low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((__m128i*)(h + 8), _mm256_cvtps_ph((__m256)v.high, _MM_FROUND_TO_NEAREST_INT));
#else
  const I32x16 bits = bits_of(v), magnitude = bits & 0x7fffffff;
  const F32x16 shift = bits_to_float(splat_int(126 << 23));  // its last place is the smallest half
  const I32x16 subnormal = bits_of(bits_to_float(magnitude) + shift) - (126 << 23);
  const I32x16 odd = (magnitude >> 13) & 1;
  const I32x16 normal = (magnitude - (112 << 23) + 0xfff + odd) >> 13;
  const I32x16 nan = ((magnitude >> 13) & 0x3ff) | 0x7e00;
  I32x16 half = select16(magnitude < (113 << 23), subnormal, normal);
  half = select16(magnitude >= (143 << 23), splat_int(0x7c00), half);
  half = select16(magnitude > 0x7f800000, nan, half) | ((bits >> 16) & 0x8000);
  for (int i = 0; i < 16; ++i) h[i] = uint16_t(half[i]);
#endif
}

// n of up to 16 values, +0 beyond.
static inline F32x16 load_half(const uint16_t* p, int64_t n) {
  if (n >= 16) return load_half16(p);
  uint16_t h[16] = {};
  __builtin_memcpy(h, p, n * 2);
  return load_half16(h);
}

static inline void store_half(uint16_t* p, F32x16 v, int64_t n) {
  if (n >= 16) return store_half16(p, v);
  uint16_t h[16];
  store_half16(h, v);
  __builtin_memcpy(p, h, n * 2);
}

}  // namespace hearth::HEARTH_ISA
