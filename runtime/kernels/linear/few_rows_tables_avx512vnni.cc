// Few rows of weights of tables: every line of planes is read once, expanded in registers and multiplied with all rows.
#include "linear/interleaved.h"
#include "linear/table_lines.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr int32_t kOffset = 128;

// f(planes, step) for each 32 values of K of a block in order, after lines.group of their group.
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
    each_step<kBits>(l, block, lines, [&](const uint8_t* planes, int64_t) __attribute__((always_inline)) {
#pragma GCC unroll 8
      for (int line = 0; line < kBits; ++line) fetch_ahead<kRows>(planes + line * 64);
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

// One row of codes as words: of every quad the two even ones, and of every quad the two odd ones.
struct Words {
  const int16_t *even, *odd;
  Words(const Linear& l, const Call& call) {
    const int64_t columns = round_up(l.k, 128);
    const int8_t* codes = l.codes(0);
    int16_t *even_to = reinterpret_cast<int16_t*>(call.scratch), *odd_to = even_to + columns / 2;
    for (int64_t k = 0; k < columns; k += 64) {
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

// One row of codes of 4 to 6 bits: its words, as they come from the multiplication, are not made bytes first.
template <int kBits>
struct WordProduct {
  Words x;
  Lines<kBits, 0> lines;
  WordProduct(const Linear& l, const Call& call) : x(l, call), lines(l.levels()) {}

  void dot(const Linear& l, int64_t block, int32_t* sums) {
    __m512i total[2] = {};
    each_step<kBits>(l, block, lines, [&](const uint8_t* planes, int64_t step) __attribute__((always_inline)) {
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

template <int kBits>
struct OneRow {
  using Type = WordProduct<kBits>;
};
template <>
struct OneRow<2> {
  using Type = Product<2, 1>;
};
template <>
struct OneRow<3> {
  using Type = Product<3, 1>;
};

}  // namespace

template <int kBits>
void few_rows_table(const Linear& l, const Call& call) {
  switch (call.rows) {
    case 1: return run<typename OneRow<kBits>::Type>(l, call);
    case 2: return run<Product<kBits, 2>>(l, call);
    case 3: return run<Product<kBits, 3>>(l, call);
    case 4: return run<Product<kBits, 4>>(l, call);
    case 5: return run<Product<kBits, 5>>(l, call);
    case 6: return run<Product<kBits, 6>>(l, call);
    case 7: return run<Product<kBits, 7>>(l, call);
    default: return run<Product<kBits, 8>>(l, call);
  }
}
template void few_rows_table<2>(const Linear&, const Call&);
template void few_rows_table<3>(const Linear&, const Call&);
template void few_rows_table<4>(const Linear&, const Call&);
template void few_rows_table<5>(const Linear&, const Call&);
template void few_rows_table<6>(const Linear&, const Call&);

}  // namespace hearth::HEARTH_ISA
