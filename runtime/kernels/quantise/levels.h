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

// The cells of one multiplier, ready for many weights: in registers where the ISA can look up in them.
#if HEARTH_WIDTH == 16
struct Cells {
  const int8_t* values;
  __m512i words[8];  // two cells each
  explicit Cells(const int8_t* from) : values(from) {
    for (int i = 0; i < 8; ++i) words[i] = _mm512_loadu_si512(from + i * 64);
  }
  static __m512i at(F32x16 w, float twice) {
    const F32x16 x = min16(max16(w * twice + 256.0f, splat(0.0f)), splat(511.0f));
    return _mm512_cvttps_epi32((__m512)x);
  }
  void pair(F32x16 w0, F32x16 w1, float twice, F32x16& e0, F32x16& e1) const {
    const __m512i cell = _mm512_packus_epi32(at(w0, twice), at(w1, twice)), word = _mm512_srli_epi16(cell, 1);
    const __mmask32 bit6 = _mm512_movepi16_mask(_mm512_slli_epi16(word, 9));
    const __mmask32 bit7 = _mm512_movepi16_mask(_mm512_slli_epi16(word, 8));
    const __m512i low = _mm512_mask_blend_epi16(bit6, _mm512_permutex2var_epi16(words[0], word, words[1]),
                                                _mm512_permutex2var_epi16(words[2], word, words[3]));
    const __m512i high = _mm512_mask_blend_epi16(bit6, _mm512_permutex2var_epi16(words[4], word, words[5]),
                                                 _mm512_permutex2var_epi16(words[6], word, words[7]));
    const __m512i found = _mm512_mask_blend_epi16(bit7, low, high);
    const __m512i even = _mm512_slli_epi16(_mm512_andnot_si512(cell, _mm512_set1_epi16(1)), 3);
    const __m512i level = _mm512_srai_epi16(_mm512_sllv_epi16(found, even), 8), zero = _mm512_setzero_si512();
    e0 = (F32x16)_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_unpacklo_epi16(zero, level), 16));
    e1 = (F32x16)_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_unpackhi_epi16(zero, level), 16));
  }
};
#else
struct Cells {
  const int8_t* values;
  explicit Cells(const int8_t* from) : values(from) {}
  void pair(F32x16 w0, F32x16 w1, float twice, F32x16& e0, F32x16& e1) const {
    e0 = levels16(values, w0, twice);
    e1 = levels16(values, w1, twice);
  }
};
#endif

// Calls use(v, w, level) for vector after vector.
template <class Use>
[[gnu::always_inline]] static inline void over_levels(const int8_t* values, const float* w, int64_t vectors, float twice,
                                                      Use use) {
  const Cells cells(values);
  int64_t v = 0;
  for (; v + 2 <= vectors; v += 2) {
    const F32x16 w0 = load16(w + v * 16), w1 = load16(w + v * 16 + 16);
    F32x16 e0, e1;
    cells.pair(w0, w1, twice, e0, e1);
    use(v, w0, e0);
    use(v + 1, w1, e1);
  }
  if (v < vectors) use(v, load16(w + v * 16), levels16(values, load16(w + v * 16), twice));
}

static inline float to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

}  // namespace hearth::HEARTH_ISA
