// 16 half-precision values to and from f32, rounded to nearest even; the same bits with and without the instruction.
#pragma once

#include "arithmetic.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace hearth::HEARTH_ISA {

typedef uint16_t U16x16 __attribute__((vector_size(32), aligned(32)));

static inline F32x16 select16(I32x16 mask, F32x16 yes, F32x16 no) { return mask ? yes : no; }

static inline F32x16 half_to_float16(U16x16 h) {
#if defined(__AVX512F__)
  return (F32x16)_mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__)
  const __m256i bits = (__m256i)h;
  const __m256 parts[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(bits)),
                           _mm256_cvtph_ps(_mm256_extracti128_si256(bits, 1))};
  F32x16 v;
  __builtin_memcpy(&v, parts, 64);
  return v;
#else
  const I32x16 bits = __builtin_convertvector(h, I32x16), magnitude = (bits & 0x7fff) << 13;
  const I32x16 exponent = magnitude & 0x0f800000, shifted = magnitude + (112 << 23);
  const F32x16 smallest = (F32x16)(I32x16{} + (113 << 23));
  const F32x16 subnormal = (F32x16)(shifted + (1 << 23)) - smallest;  // exact
  I32x16 value = exponent == 0x0f800000 ? shifted + (112 << 23) : shifted;
  value = exponent == 0 ? (I32x16)subnormal : value;
  return (F32x16)(value | (bits & 0x8000) << 16);
#endif
}

static inline U16x16 float_to_half16(F32x16 v) {
#if defined(__AVX512F__)
  return (U16x16)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__F16C__)
  __m256 parts[2];
  __builtin_memcpy(parts, &v, 64);
  const __m128i low = _mm256_cvtps_ph(parts[0], _MM_FROUND_TO_NEAREST_INT);
  const __m128i high = _mm256_cvtps_ph(parts[1], _MM_FROUND_TO_NEAREST_INT);
  return (U16x16)_mm256_set_m128i(high, low);
#else
  const I32x16 bits = (I32x16)v, magnitude = bits & 0x7fffffff;
  const F32x16 shift = (F32x16)(I32x16{} + (126 << 23));  // its last place is the smallest half
  const I32x16 subnormal = (I32x16)((F32x16)magnitude + shift) - (126 << 23);
  const I32x16 odd = magnitude >> 13 & 1;
  const I32x16 normal = (magnitude - (112 << 23) + 0xfff + odd) >> 13;
  const I32x16 special = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x3ff) : I32x16{} + 0x7c00;
  I32x16 half = magnitude < (113 << 23) ? subnormal : normal;
  half = magnitude >= (143 << 23) ? special : half;
  return __builtin_convertvector(half | (bits >> 16 & 0x8000), U16x16);
#endif
}

static inline F32x16 load_half(const uint16_t* p, int64_t n) {
  U16x16 h{};
  if (n >= 16) __builtin_memcpy(&h, p, 32);
  else __builtin_memcpy(&h, p, n * 2);
  return half_to_float16(h);
}

static inline void store_half(uint16_t* p, F32x16 v, int64_t n) {
  const U16x16 h = float_to_half16(v);
  if (n >= 16) __builtin_memcpy(p, &h, 32);
  else __builtin_memcpy(p, &h, n * 2);
}

}  // namespace hearth::HEARTH_ISA
