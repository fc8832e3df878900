// Codes of t2b16 .. t6b16 as the int8 weights they stand for: (level * multiplier + 64) >> 7, the level looked up in
// the tensor's table.
//
// 32 values of K of a block are `kBits` lines of 64 bytes, planes of widths 4, 2 and 1 that add up to kBits, the widest
// with the low bits of the code first. A byte of a line belongs to a channel and a K modulo 4; it holds 8 / width quads
// of K. What comes out is the 8 lines of q8b16, [quad][channel][4].
#pragma once

#include "linear/parts.h"

namespace hearth::HEARTH_ISA {

// Width kWidth's place in a code of kBits: how many bits, and lines, wider planes have.
constexpr int bits_below(int bits, int width) { return bits & ~(2 * width - 1); }

// The code of one byte's place: `planes` points to that byte of the first line.
template <int kBits>
[[gnu::always_inline]] static inline int code_of(const uint8_t* planes, int quad) {
  const auto plane = [&](int width) {  // its bits, at their place
    const int below = bits_below(kBits, width), quads = 8 / width, line = below + quad / quads;
    return (planes[line * 64] >> (quad % quads * width) & ((1 << width) - 1)) << below;
  };
  return (kBits & 4 ? plane(4) : 0) | (kBits & 2 ? plane(2) : 0) | (kBits & 1 ? plane(1) : 0);
}

#if defined(__AVX2__)
// An ISA's vector of bytes; lookups in 16 bytes that every 128 bits of a register hold.
#if defined(__AVX512F__)
struct Bytes64 {
  static constexpr int kSize = 64;
  using V = __m512i;
  using Mask = __mmask64;
  static V load(const void* p) { return _mm512_loadu_si512(p); }
  static void store(void* p, V v) { _mm512_storeu_si512(p, v); }
  static V levels(const int8_t* p) { return _mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128((const __m128i*)p)); }
  static V splat(int8_t v) { return _mm512_set1_epi8(v); }
  static V both(V a, V b) { return _mm512_and_si512(a, b); }
  static V right(V v, int bits) { return _mm512_maskz_srl_epi16(-1, v, _mm_cvtsi32_si128(bits)); }
  static V lookup(V levels, V codes) { return _mm512_shuffle_epi8(levels, codes); }
  static Mask has(V v, int bit) { return _mm512_test_epi8_mask(v, splat(int8_t(1 << bit))); }
  static V choose(Mask m, V yes, V no) { return _mm512_mask_blend_epi8(m, no, yes); }
  // Two times m in each half of a channel's four bytes.
  static V multipliers(const uint8_t* p) {
    const __m512i m = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p));
    return _mm512_mask_blend_epi16(0xaaaaaaaa, m, _mm512_slli_epi32(m, 16));
  }
  static V product(V levels, V m) {
    const V high = _mm512_set1_epi16(int16_t(0xff00));
    const V even = _mm512_mulhrs_epi16(_mm512_slli_epi16(levels, 8), m);
    const V odd = _mm512_mulhrs_epi16(_mm512_and_si512(levels, high), m);
    return _mm512_ternarylogic_epi32(high, _mm512_slli_epi16(odd, 8), even, 0xca);  // high ? odd : even
  }
};
using ByteLanes = Bytes64;
#else
struct Bytes32 {
  static constexpr int kSize = 32;
  using V = __m256i;
  using Mask = __m256i;
  static V load(const void* p) { return _mm256_loadu_si256((const V*)p); }
  static void store(void* p, V v) { _mm256_storeu_si256((V*)p, v); }
  static V levels(const int8_t* p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p)); }
  static V splat(int8_t v) { return _mm256_set1_epi8(v); }
  static V both(V a, V b) { return _mm256_and_si256(a, b); }
  static V right(V v, int bits) { return _mm256_srl_epi16(v, _mm_cvtsi32_si128(bits)); }
  static V lookup(V levels, V codes) { return _mm256_shuffle_epi8(levels, codes); }
  static Mask has(V v, int bit) { return _mm256_sll_epi16(v, _mm_cvtsi32_si128(7 - bit)); }  // the sign of each byte
  static V choose(Mask m, V yes, V no) { return _mm256_blendv_epi8(no, yes, m); }
  static V multipliers(const uint8_t* p) {
    const __m256i m = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p));
    return _mm256_blend_epi16(m, _mm256_slli_epi32(m, 16), 0xaa);
  }
  // Of the even bytes, and of the odd ones, as words.
  static V even_words(V levels, V m) { return _mm256_mulhrs_epi16(_mm256_slli_epi16(levels, 8), m); }
  static V odd_words(V levels, V m) {
    return _mm256_mulhrs_epi16(_mm256_and_si256(levels, _mm256_set1_epi16(int16_t(0xff00))), m);
  }
  static V product(V levels, V m) {
    const V odd = _mm256_slli_epi16(odd_words(levels, m), 8);
    return _mm256_or_si256(odd, _mm256_andnot_si256(_mm256_set1_epi16(int16_t(0xff00)), even_words(levels, m)));
  }
};
using ByteLanes = Bytes32;
#endif

// The levels of a quad's codes; `planes` points to the vector's bytes of the first line.
template <int kBits>
[[gnu::always_inline]] static inline ByteLanes::V levels_of(const ByteLanes::V* tables, const uint8_t* planes, int quad) {
  using B = ByteLanes;
  if constexpr (kBits == 2) {
    const B::V line = B::load(planes + quad / 4 * 64);
    return B::lookup(tables[0], B::both(B::right(line, quad % 4 * 2), B::splat(3)));
  } else if constexpr (kBits == 3) {
    const B::V two = B::both(B::right(B::load(planes + quad / 4 * 64), quad % 4 * 2), B::splat(3));
    const auto third = B::has(B::load(planes + 2 * 64), quad);
    return B::choose(third, B::lookup(tables[1], two), B::lookup(tables[0], two));
  } else {
    const B::V four = B::both(B::right(B::load(planes + quad / 2 * 64), quad % 2 * 4), B::splat(15));
    const B::V first = B::lookup(tables[0], four);
    if constexpr (kBits == 4) return first;
    const B::V second = B::lookup(tables[1], four);
    if constexpr (kBits == 5) return B::choose(B::has(B::load(planes + 4 * 64), quad), second, first);
    const B::V line = B::load(planes + (4 + quad / 4) * 64);
    const auto fifth = B::has(line, quad % 4 * 2), sixth = B::has(line, quad % 4 * 2 + 1);
    const B::V upper = B::choose(fifth, B::lookup(tables[3], four), B::lookup(tables[2], four));
    return B::choose(sixth, upper, B::choose(fifth, second, first));
  }
}

// What levels_of looks codes up in.
template <int kBits>
struct TablesOf {
  static constexpr int kTables = kBits == 3 ? 2 : kBits <= 4 ? 1 : 1 << (kBits - 4), kStep = kBits == 3 ? 4 : 16;
  ByteLanes::V tables[kTables];
  explicit TablesOf(const int8_t* levels) {
    for (int i = 0; i < kTables; ++i) tables[i] = ByteLanes::levels(levels + i * kStep);
  }
};

template <int kBits>
static inline void expand_levels(const int8_t* levels, const uint8_t* multipliers, const uint8_t* planes, uint8_t* out) {
  using B = ByteLanes;
  const TablesOf<kBits> tables(levels);
  for (int at = 0; at < 64; at += B::kSize) {
    const B::V m = B::multipliers(multipliers + at / 4);
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; ++quad)
      B::store(out + quad * 64 + at, B::product(levels_of<kBits>(tables.tables, planes + at, quad), m));
  }
}
#else
template <int kBits>
static inline void expand_levels(const int8_t* levels, const uint8_t* multipliers, const uint8_t* planes, uint8_t* out) {
  for (int quad = 0; quad < 8; ++quad)
    for (int i = 0; i < 64; ++i) {
      const int level = levels[code_of<kBits>(planes + i, quad)];
      out[quad * 64 + i] = uint8_t((level * int8_t(multipliers[i / 4]) + 64) >> 7);
    }
}
#endif

}  // namespace hearth::HEARTH_ISA
