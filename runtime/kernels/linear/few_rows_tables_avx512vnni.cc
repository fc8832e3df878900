// Few rows of weights of tables: every line of planes is read once, expanded in registers and multiplied with all rows.
#include "linear/interleaved.h"
#include "linear/table_lines.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr int32_t kOffset = 128;

// f(lines, step) for each 32 values of K of a block in order, after lines.group of their group.
template <int kBits, class LinesT, class F>
[[gnu::always_inline]] inline void each_step(const Linear& l, int64_t block, LinesT& lines, F f) {
  const uint8_t* w = l.block(block);
  const int64_t steps = l.packing.kp / 32, of_group = int64_t{1} << (l.packing.group_log2 - 5);
  for (int64_t step = 0; step < steps;) {
    const uint8_t* m = w;
    const int64_t stop = smaller(steps, step + 4 * of_group);
    w += (stop - step + of_group - 1) / of_group * 16;
    for (; step < stop; m += 16) {
      lines.group(m);
      for (const int64_t end = smaller(stop, step + of_group); step < end; ++step, w += kBits * 64) f(w, step);
    }
  }
}

template <int kBits, int kRows>
struct Product {
  Rows x;
  Lines<kBits, kOffset> lines;
  Product(const Linear& l, const Call& call) : x(l, call, false, kOffset), lines(l.levels()) {}

  void dot(const Linear& l, int64_t block, int32_t* sums) {
    constexpr int kPadded = padded_rows(kRows), kChains = kRows < 3 ? 2 : 1;
    __m512i total[kRows][kChains];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      total[r][0] = _mm512_set1_epi32(x.starts[r]);
      if (kChains > 1) total[r][kChains - 1] = _mm512_setzero_si512();
    }
    const int8_t* codes = x.codes;
    each_step<kBits>(l, block, lines, [&](const uint8_t* w, int64_t) __attribute__((always_inline)) {
      const Planes<kBits> planes(w);
#pragma GCC unroll 8
      for (int line = 0; line < kBits; ++line) fetch_ahead<kRows>(w + line * 64);
#pragma GCC unroll 8
      for (int quad = 0; quad < 8; ++quad) {
        const __m512i bytes = lines.bytes(planes, quad);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) add_dot(total[r][quad % kChains], bytes, codes + (quad * kPadded + r) * 4);
      }
      codes += 32 * kPadded;
    });
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      _mm512_storeu_si512(sums + r * 32, kChains > 1 ? _mm512_add_epi32(total[r][0], total[r][kChains - 1]) : total[r][0]);
  }
};

// Up to four rows of codes, of every 32 values the quads 0, 2, 4, 6 and then 1, 3, 5, 7.
template <int kRows>
struct QuadPairs {
  const int8_t* codes;  // [columns / 32][kRows][2][16]
  int32_t starts[kRows];
  QuadPairs(const Linear& l, const Call& call) : codes(reinterpret_cast<const int8_t*>(call.scratch)) {
    const __m256i order = _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0);
    for (int64_t r = 0; r < kRows; ++r) {
      starts[r] = int32_t(-uint32_t(kOffset) * uint32_t(l.sum_of_codes(r)));
      uint8_t* to = reinterpret_cast<uint8_t*>(call.scratch) + r * 32;
      for (int64_t k = call.again ? l.packing.kp : 0; k < l.packing.kp; k += 32, to += kRows * 32) {
        const __m256i quads = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(l.codes(r) + k));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32(quads, order));
      }
    }
  }
};

// 4 bits, up to four rows: the products of a group are 16 bytes a channel, so every 128 bits hold those of one channel and
// its codes are looked up in them. Four lines are transposed for that: a shuffle for 64 codes, where looking levels up
// and multiplying them takes four multiplications. Sums of four quads stay apart until the end.
template <int kRows>
struct ChannelProduct {
  QuadPairs<kRows> x;
  __m512i low, high;  // levels << 8 as words: of codes 0 .. 7, of codes 8 .. 15
  ChannelProduct(const Linear& l, const Call& call) : x(l, call) {
    const __m128i* eights = reinterpret_cast<const __m128i*>(l.levels());
    const __m256i words = _mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(eights)), 8);
    low = _mm512_broadcast_i32x4(_mm256_castsi256_si128(words));
    high = _mm512_broadcast_i32x4(_mm256_extracti128_si256(words, 1));
  }

  // Of the channel at kIndex of each four; m as two_multipliers has them.
  template <int kIndex>
  __m512i products(__m512i m) const {
    const __m512i one = _mm512_shuffle_epi32(m, static_cast<_MM_PERM_ENUM>(kIndex * 0x55));
    const __m512i bytes = _mm512_packs_epi16(_mm512_mulhrs_epi16(low, one), _mm512_mulhrs_epi16(high, one));
    return _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(kOffset)));
  }

  struct Group {
    const ChannelProduct& p;
    __m512i table[4];
    void group(const uint8_t* multipliers) {
      const __m512i m = two_multipliers(multipliers);
      table[0] = p.products<0>(m), table[1] = p.products<1>(m), table[2] = p.products<2>(m), table[3] = p.products<3>(m);
    }
  };

  void dot(const Linear& l, int64_t block, int32_t* sums) const {
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i total[kRows][4];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) total[r][i] = _mm512_setzero_si512();
    Group group{*this, {}};
    const int8_t* codes = x.codes;
    each_step<4>(l, block, group, [&](const uint8_t* w, int64_t) __attribute__((always_inline)) {
      const Planes<4> planes(w);
      const __m512i* line = planes.line;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) fetch_ahead<kRows>(w + i * 64);
      const __m512i low01 = _mm512_unpacklo_epi32(line[0], line[1]), low23 = _mm512_unpacklo_epi32(line[2], line[3]);
      const __m512i high01 = _mm512_unpackhi_epi32(line[0], line[1]), high23 = _mm512_unpackhi_epi32(line[2], line[3]);
      const __m512i channels[4] = {_mm512_unpacklo_epi64(low01, low23), _mm512_unpackhi_epi64(low01, low23),
                                   _mm512_unpacklo_epi64(high01, high23), _mm512_unpackhi_epi64(high01, high23)};
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
#pragma GCC unroll 2
        for (int odd = 0; odd < 2; ++odd) {
          const __m512i code = _mm512_and_si512(shifted(channels[i], 4 * odd), mask);
          const __m512i bytes = _mm512_shuffle_epi8(group.table[i], code);
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + r * 32 + odd * 16));
            total[r][i] = _mm512_dpbusd_epi32(total[r][i], bytes, _mm512_broadcast_i32x4(four));
          }
        }
      codes += 32 * kRows;
    });
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m512i first = pair_sums(total[r][0], total[r][1]), second = pair_sums(total[r][2], total[r][3]);
      const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
      _mm512_storeu_si512(sums + r * 32, _mm512_add_epi32(all, _mm512_set1_epi32(x.starts[r])));
    }
  }
  static __m512i pair_sums(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  }
};

// One row of codes as words: of every quad the two even ones, and of every quad the two odd ones.
struct Words {
  const int16_t *even, *odd;
  Words(const Linear& l, const Call& call) {
    const int64_t columns = round_up(l.k, 128);
    const int8_t* codes = l.codes(0);
    int16_t *even_to = reinterpret_cast<int16_t*>(call.scratch), *odd_to = even_to + columns / 2;
    for (int64_t k = call.again ? columns : 0; k < columns; k += 64) {
      const __m512i bytes = load(codes + k);
      _mm512_storeu_si512(even_to + k / 2, _mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8));
      _mm512_storeu_si512(odd_to + k / 2, _mm512_srai_epi16(bytes, 8));
    }
    even = even_to, odd = odd_to;
  }
};

// sum += words x two codes, the same for every channel.
inline void add_words(__m512i& sum, __m512i words, const int16_t* codes) {
  typedef int32_t Two __attribute__((may_alias, aligned(1)));
  asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(words), "m"(*reinterpret_cast<const Two*>(codes)));
}

// One row of codes of 5 or 6 bits: its words, as they come from the multiplication, are not made bytes first.
template <int kBits>
struct WordProduct {
  Words x;
  Lines<kBits, 0> lines;
  WordProduct(const Linear& l, const Call& call) : x(l, call), lines(l.levels()) {}

  void dot(const Linear& l, int64_t block, int32_t* sums) {
    __m512i total[2] = {};
    each_step<kBits>(l, block, lines, [&](const uint8_t* w, int64_t step) __attribute__((always_inline)) {
      const Planes<kBits> planes(w);
#pragma GCC unroll 8
      for (int quad = 0; quad < 8; ++quad) {
        __m512i even, odd;
        lines.words(planes, quad, even, odd);
        add_words(total[0], even, x.even + (step * 8 + quad) * 2);
        add_words(total[1], odd, x.odd + (step * 8 + quad) * 2);
      }
    });
    _mm512_storeu_si512(sums, _mm512_add_epi32(total[0], total[1]));
  }
};

template <class P>
void run(const Linear& l, const Call& call) {
  P product(l, call);
  few_rows(l, call, [&](int64_t block, int32_t* sums) { product.dot(l, block, sums); });
}

// What multiplies a number of rows.
template <int kBits, int kRows>
struct ProductOf {
  using Type = Product<kBits, kRows>;
};
template <int kRows>
  requires(kRows <= 4)
struct ProductOf<4, kRows> {
  using Type = ChannelProduct<kRows>;
};
template <>
struct ProductOf<5, 1> {
  using Type = WordProduct<5>;
};
template <>
struct ProductOf<6, 1> {
  using Type = WordProduct<6>;
};

}  // namespace

template <int kBits>
void few_rows_table(const Linear& l, const Call& call) {
  switch (call.rows) {
    case 1: return run<typename ProductOf<kBits, 1>::Type>(l, call);
    case 2: return run<typename ProductOf<kBits, 2>::Type>(l, call);
    case 3: return run<typename ProductOf<kBits, 3>::Type>(l, call);
    case 4: return run<typename ProductOf<kBits, 4>::Type>(l, call);
    case 5: return run<typename ProductOf<kBits, 5>::Type>(l, call);
    case 6: return run<typename ProductOf<kBits, 6>::Type>(l, call);
    case 7: return run<typename ProductOf<kBits, 7>::Type>(l, call);
    default: return run<typename ProductOf<kBits, 8>::Type>(l, call);
  }
}
template void few_rows_table<2>(const Linear&, const Call&);
template void few_rows_table<3>(const Linear&, const Call&);
template void few_rows_table<4>(const Linear&, const Call&);
template void few_rows_table<5>(const Linear&, const Call&);
template void few_rows_table<6>(const Linear&, const Call&);

}  // namespace hearth::HEARTH_ISA
