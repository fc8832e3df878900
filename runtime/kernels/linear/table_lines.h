// Weights of tables as bytes on AVX-512: the lines of t2b16 .. t6b16 become those of q8b16, a quad of K at a time.
//
// Of 4 to 6 bits every code is looked up in the tensor's table, as a 16-bit word level << 8, even and odd bytes apart:
// what vpermw and vpermt2w read of an index are its lower bits alone, so the others need no mask, and
// vpmulhrsw(level << 8, m) is (level * m + 64) >> 7. Of 2 and 3 bits a group has few levels: they are multiplied first, and the
// codes looked up in the products, four of each of four channels in every 128 bits.
#pragma once

#include <immintrin.h>

#include "linear/parts.h"

namespace hearth::HEARTH_ISA {

typedef uint16_t U16x32 __attribute__((vector_size(64)));

static inline __m512i load_line(const void* p) { return _mm512_loadu_si512(p); }

// The lines of 32 values of K, read once and in order: a stream that the hardware follows.
template <int kBits>
struct Planes {
  __m512i line[kBits];
  [[gnu::always_inline]] explicit Planes(const uint8_t* planes) {
#pragma GCC unroll 8
    for (int i = 0; i < kBits; ++i) {
      line[i] = load_line(planes + i * 64);
      asm volatile("" : "+v"(line[i]));
    }
  }
};

// The words of v shifted right, or left where bits < 0.
[[gnu::always_inline]] static inline __m512i shifted(__m512i v, int bits) {
  return bits > 0 ? (__m512i)((U16x32)v >> bits) : bits < 0 ? (__m512i)((U16x32)v << -bits) : v;
}

// A channel's multiplier in both words of its lane.
static inline __m512i two_multipliers(const uint8_t* p) {
  const __m512i twice = _mm512_broadcast_i32x4(_mm_set_epi32(0x0d0c0d0c, 0x09080908, 0x05040504, 0x01000100));
  return _mm512_shuffle_epi8(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), twice);
}

// The low bytes of the words of even and, between them, of odd.
static inline __m512i merged(__m512i even, __m512i odd) {
  const __m512i up = _mm512_broadcast_i32x4(_mm_set_epi32(0x0e0e0c0c, 0x0a0a0808, 0x06060404, 0x02020000));
  return _mm512_mask_shuffle_epi8(even, 0xaaaaaaaaaaaaaaaa, odd, up);
}

// kOffset: 128 where bytes are wanted as w + 128, or 0.
template <int kBits, int kOffset>
class TableLines {
 public:
  explicit TableLines(const int8_t* levels) {
    const auto words = [](__m256i bytes) { return _mm512_slli_epi16(_mm512_cvtepi8_epi16(bytes), 8); };
    const __m256i* halves = reinterpret_cast<const __m256i*>(levels);
    const __m128i* sixteen = reinterpret_cast<const __m128i*>(levels);
    low_ = words(kBits == 4 ? _mm256_broadcastsi128_si256(_mm_loadu_si128(sixteen)) : _mm256_loadu_si256(halves));
    high_ = words(_mm256_loadu_si256(halves + 1));
  }
  void group(const uint8_t* multipliers) { m_ = two_multipliers(multipliers); }

  // w of the even and of the odd bytes of a quad's line as words.
  [[gnu::always_inline]] inline void words(const Planes<kBits>& planes, int quad, __m512i& even, __m512i& odd) const {
    const __m512i codes = codes_of(planes, quad);
    even = _mm512_mulhrs_epi16(levels_of(codes), m_);
    odd = _mm512_mulhrs_epi16(levels_of(_mm512_srli_epi16(codes, 8)), m_);
  }
  [[gnu::always_inline]] inline __m512i bytes(const Planes<kBits>& planes, int quad) const {
    __m512i even, odd;
    words(planes, quad, even, odd);
    const __m512i all = merged(even, odd);
    return kOffset ? _mm512_xor_si512(all, _mm512_set1_epi8(static_cast<char>(kOffset))) : all;
  }

 private:
  // Bytes whose lower kBits bits are the codes.
  [[gnu::always_inline]] static inline __m512i codes_of(const Planes<kBits>& planes, int quad) {
    const __m512i four = shifted(planes.line[quad / 2], quad % 2 * 4);
    if (kBits == 4) return four;
    const __m512i rest = shifted(planes.line[kBits == 5 ? 4 : 4 + quad / 4], kBits == 5 ? quad - 4 : quad % 4 * 2 - 4);
    return _mm512_ternarylogic_epi32(four, _mm512_set1_epi8(15), rest, 0xe2);  // 15 ? four : rest
  }
  [[gnu::always_inline]] inline __m512i levels_of(__m512i codes) const {
    return kBits == 6 ? _mm512_permutex2var_epi16(low_, codes, high_) : _mm512_permutexvar_epi16(codes, low_);
  }

  __m512i low_, high_, m_;
};

template <int kBits, int kOffset>
class GroupLines {
 public:
  explicit GroupLines(const int8_t* levels) {
    for (int i = 0; i < kTables; ++i) {
      int32_t four;
      __builtin_memcpy(&four, levels + 4 * i, 4);
      odd_[i] = _mm512_set1_epi32(four & int32_t(0xff00ff00));
      even_[i] = _mm512_set1_epi32(int32_t(uint32_t(four) << 8 & 0xff00ff00));
    }
  }
  void group(const uint8_t* multipliers) {
    const __m512i m = two_multipliers(multipliers);
    for (int i = 0; i < kTables; ++i) {
      const __m512i products = merged(_mm512_mulhrs_epi16(even_[i], m), _mm512_mulhrs_epi16(odd_[i], m));
      products_[i] = _mm512_xor_si512(products, _mm512_set1_epi8(static_cast<char>(kOffset)));
    }
  }
  [[gnu::always_inline]] inline __m512i bytes(const Planes<kBits>& planes, int quad) const {
    const __m512i channels = _mm512_broadcast_i32x4(_mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
    const __m512i two = shifted(planes.line[quad / 4], quad % 4 * 2);
    const __m512i places = _mm512_ternarylogic_epi32(two, _mm512_set1_epi8(3), channels, 0xea);  // (two & 3) | channels
    const __m512i first = _mm512_shuffle_epi8(products_[0], places);
    if (kBits == 2) return first;
    const __mmask64 third = _mm512_test_epi8_mask(planes.line[kBits - 1], _mm512_set1_epi8(static_cast<char>(1 << quad)));
    return _mm512_mask_blend_epi8(third, first, _mm512_shuffle_epi8(products_[kTables - 1], places));
  }

 private:
  static constexpr int kTables = kBits - 1;
  __m512i even_[kTables], odd_[kTables], products_[kTables];
};

template <int kBits, int kOffset>
struct LinesOf {
  using Type = TableLines<kBits, kOffset>;
};
template <int kOffset>
struct LinesOf<2, kOffset> {
  using Type = GroupLines<2, kOffset>;
};
template <int kOffset>
struct LinesOf<3, kOffset> {
  using Type = GroupLines<3, kOffset>;
};
template <int kBits, int kOffset>
using Lines = typename LinesOf<kBits, kOffset>::Type;

// K values k .. k + count of a block, both multiples of 32, as lines `stride` bytes apart.
template <int kBits, int kOffset>
static void expand_table(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
  Lines<kBits, kOffset> lines(l.levels());
  const uint8_t* from = l.block(block);
  for (const int64_t end = k + count; k < end; k += 32) {
    lines.group(from + l.packing.table_multipliers_of(k));
    const Planes<kBits> planes(from + l.packing.planes_of(k));
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; ++quad, out += stride) _mm512_storeu_si512(out, lines.bytes(planes, quad));
  }
}

}  // namespace hearth::HEARTH_ISA
