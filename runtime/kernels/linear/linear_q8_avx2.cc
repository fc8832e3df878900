// Integer linears on AVX2, without saturation.
//
// int4: vpmaddubsw adds two products of a nibble (code + 8 <= 15) and a code in 16 bits, where a whole step of 32
// values finds room; one vpmaddwd with the multiplier then makes 32 bits of it: 9 products and 9 sums per 8 channels
// x 32 values. int8: bytes are widened to 16 bits, even values of K apart from odd ones, and vpmaddwd adds exact
// pairs: twice the work. Either way the rest is 16 registers: dots of four rows x 16 channels, the weights, the
// codes; so the 32-bit sums of nibbles stay in memory, which is cheap once per step.
#include <immintrin.h>

#include "linear/integer.h"
#include "linear/levels.h"

namespace hearth::HEARTH_ISA {
namespace {

__m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
__m256i four_bytes(const void* p) {  // in every lane
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}

// Rows' sums of 16 channels, `stride` apart.
struct Sums {
  int32_t* at;
  int64_t stride;
  void* half(int64_t row, int h) const { return at + row * stride + h * 8; }
};

// How many of up to 8 rows the dots take at once: all, or one half and then the other, while the weights lie in L1.
constexpr int first_rows(int rows) { return rows > 4 ? (rows + 1) / 2 : rows; }

struct Nibbles {
  static constexpr int kFewRows = 8, kTileRows = 4, kPanelBlocks = 2;
  static constexpr int64_t kPanelK = 512, kPanelLines = kPanelK / 32 * 9;
  static constexpr int32_t kWeightOffset = 0;

  // 32 values of a block as it is packed: 16 bytes of multipliers, 4 lines of pairs of nibbles.
  struct Packed {
    const uint8_t *pairs, *m;
    __m256i nibbles(int quad, int half) const {
      const __m256i bytes = load(pairs + quad / 2 * 64 + half * 32);
      return _mm256_and_si256(quad % 2 ? _mm256_srli_epi16(bytes, 4) : bytes, _mm256_set1_epi8(0x0f));
    }
    __m256i multipliers(int half) const {  // each twice, in 16 bits
      const __m256i lanes = _mm256_set_epi32(0x07800780, 0x06800680, 0x05800580, 0x04800480,  //
                                             0x03800380, 0x02800280, 0x01800180, 0x00800080);
      int64_t eight;
      __builtin_memcpy(&eight, m + half * 8, 8);
      return _mm256_srai_epi16(_mm256_shuffle_epi8(_mm256_set1_epi64x(eight), lanes), 8);
    }
  };
  // The same in a panel: a line of multipliers, then 8 of nibbles.
  struct Expanded {
    uint8_t* lines;
    int64_t stride;
    uint8_t* at(int line, int half) const { return lines + line * stride + half * 32; }
    __m256i nibbles(int quad, int half) const { return load(at(1 + quad, half)); }
    __m256i multipliers(int half) const { return load(at(0, half)); }
  };

  // Where the dots of 4 steps start: -8 times the sum of the codes, in a lane's lower 16 bits. Those then hold the dot
  // of one half of the codes with code + 8 less that: |.| <= 16 * 8 * 127 + 8 * 16 * 127, wrapping on the way.
  static void starts(const int32_t* a_sums, int32_t* out) {
    const __m128i sums = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a_sums));
    const __m128i offset = _mm_sub_epi32(_mm_setzero_si128(), _mm_slli_epi32(sums, 3));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_and_si128(offset, _mm_set1_epi32(0xffff)));
  }

  // sums += 32 values of w x a.
  template <int kRows, class Weights>
  [[gnu::always_inline]] static inline void add_step(const Weights& w, const int8_t* a, int64_t a_stride,
                                                     const int32_t* start, int64_t start_stride, Sums sums) {
    __m256i dot[kRows][2];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) dot[r][0] = dot[r][1] = four_bytes(start + r * start_stride);
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; ++quad) {
      const __m256i first = w.nibbles(quad, 0), second = w.nibbles(quad, 1);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i codes = four_bytes(a + r * a_stride + quad * 4);
        dot[r][0] = _mm256_add_epi16(dot[r][0], _mm256_maddubs_epi16(first, codes));
        dot[r][1] = _mm256_add_epi16(dot[r][1], _mm256_maddubs_epi16(second, codes));
        asm("" : "+x"(dot[r][0]), "+x"(dot[r][1]));  // no tree of sums, which would spill the products
      }
    }
    const __m256i first = w.multipliers(0), second = w.multipliers(1);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      void *const low = sums.half(r, 0), *const high = sums.half(r, 1);
      store(low, _mm256_add_epi32(load(low), _mm256_madd_epi16(dot[r][0], first)));
      store(high, _mm256_add_epi32(load(high), _mm256_madd_epi16(dot[r][1], second)));
    }
  }

  template <int kRows>
  static void dot(const Linear& l, int64_t block, const int32_t*, int32_t* out) {
    constexpr int kFirst = first_rows(kRows), kSecond = kRows - kFirst;
    const Sums sums{out, 32}, second_sums{out + kFirst * 32, 32};
    for (int r = 0; r < kRows; ++r) store(sums.half(r, 0), __m256i{}), store(sums.half(r, 1), __m256i{});
    const uint8_t* w = l.block(block);
    const int8_t* a = l.codes(0);
    const int32_t* a_sums = l.sums(0);
    const int64_t steps = l.packing.kp / 32, steps_log2 = l.packing.group_log2 - 5;  // of a group
    for (int64_t step = 0; step < steps;) {
      const uint8_t* m = w;
      w += 64;
      const int64_t four_groups = smaller(steps - step, int64_t{4} << steps_log2);
      for (int64_t i = 0; i < four_groups; i += 4, w += 4 * 256, a += 4 * 32, a_sums += 4) {
        const int64_t count = smaller(four_groups - i, 4);
        alignas(16) int32_t start[kRows][4];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) starts(a_sums + r * (l.x_stride / 4), start[r]);
        for (int64_t j = 0; j < count; ++j) {
          // With so much to do per line, the core no longer runs far enough ahead for the hardware to follow.
          for (int line = 0; line < (kRows > 5 ? 4 : 0); ++line) __builtin_prefetch(w + j * 256 + line * 64 + 4096);
          add_step<kFirst>(Packed{w + j * 256, m + ((i + j) >> steps_log2) * 16}, a + j * 32, l.x_stride, start[0] + j,
                           4, sums);
        }
        if constexpr (kSecond > 0)
          for (int64_t j = 0; j < count; ++j)
            add_step<kSecond>(Packed{w + j * 256, m + ((i + j) >> steps_log2) * 16}, a + kFirst * l.x_stride + j * 32,
                              l.x_stride, start[kFirst] + j, 4, second_sums);
      }
      step += four_groups;
    }
  }

  static void expand(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    for (const int64_t end = k + count; k < end; k += 32, out += 9 * stride) {
      const Packed from{l.block(block) + l.packing.nibbles_of(k), l.block(block) + l.packing.multipliers_of(k)};
      const Expanded to{out, stride};
      for (int half = 0; half < 2; ++half) {
        store(to.at(0, half), from.multipliers(half));
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; ++quad) store(to.at(1 + quad, half), from.nibbles(quad, half));
      }
    }
  }

  template <int kRows, int kBlocks>
  static void tile(const Tile& t) {
    const int64_t steps = t.quads / 8, x_stride = t.x_stride;
    alignas(32) int32_t start[kRows][kPanelK / 32];
    for (int r = 0; r < kRows; ++r)
      for (int64_t s = 0; s < steps; s += 4) starts(t.x_sums + r * (x_stride / 4) + s, start[r] + s);
    for (int block = 0; block < kBlocks; ++block) {
      const uint8_t* w = t.panel + block * 64;
      const int8_t* x = t.x;
      int32_t* sums = t.sums + block * 16;
      for (int64_t s = 0; s < steps; ++s, w += 9 * kBlocks * 64, x += 32)
        add_step<kRows>(Expanded{const_cast<uint8_t*>(w), kBlocks * 64}, x, x_stride, start[0] + s, kPanelK / 32,
                        Sums{sums, kBlocks * 16});
    }
  }
};

struct Bytes {
  static constexpr int kFewRows = 8, kTileRows = 4, kPanelBlocks = 2;
  static constexpr int64_t kPanelK = 256, kPanelLines = kPanelK / 2;
  static constexpr int32_t kWeightOffset = 0;

  // Even (odd 0) or odd bytes as 16 bits.
  static __m256i widened(__m256i bytes, int odd) {
    return _mm256_srai_epi16(odd ? bytes : _mm256_slli_epi16(bytes, 8), 8);
  }
  // Codes of rows for up to kPanelK values, widened: of every quad the two even ones and the two odd ones.
  template <int kRows>
  struct Codes {
    alignas(32) int32_t pairs[kRows][2][kPanelK / 4];
    Codes(const int8_t* a, int64_t stride, int64_t quads) {
      for (int r = 0; r < kRows; ++r)
        for (int64_t q = 0; q < quads; q += 8) {
          const __m256i bytes = load(a + r * stride + q * 4);
          store(pairs[r][0] + q, widened(bytes, 0));
          store(pairs[r][1] + q, widened(bytes, 1));
        }
    }
  };

  struct Packed {  // lines of 4 values
    const uint8_t* w;
    __m256i words(int64_t quad, int odd, int half) const { return widened(load(w + quad * 64 + half * 32), odd); }
  };
  struct Expanded {  // in a panel: two lines, of even and of odd values
    const uint8_t* lines;
    int64_t stride;
    __m256i words(int64_t quad, int odd, int half) const { return load(lines + (2 * quad + odd) * stride + half * 32); }
  };

  // sums += quads of w x rows of `pairs`.
  template <int kRows, class Weights>
  [[gnu::always_inline]] static inline void add_quads(const Weights& w, const int32_t (*pairs)[2][kPanelK / 4],
                                                      int64_t quads, Sums sums) {
    __m256i acc[kRows][2];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) acc[r][0] = load(sums.half(r, 0)), acc[r][1] = load(sums.half(r, 1));
    for (int64_t q = 0; q < quads; ++q)
#pragma GCC unroll 2
      for (int odd = 0; odd < 2; ++odd) {
        const __m256i first = w.words(q, odd, 0), second = w.words(q, odd, 1);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const __m256i codes = four_bytes(pairs[r][odd] + q);
          acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(first, codes));
          acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(second, codes));
          asm("" : "+x"(acc[r][0]), "+x"(acc[r][1]));
        }
      }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) store(sums.half(r, 0), acc[r][0]), store(sums.half(r, 1), acc[r][1]);
  }

  template <int kRows>
  static void dot(const Linear& l, int64_t block, const int32_t*, int32_t* out) {
    constexpr int kFirst = first_rows(kRows), kSecond = kRows - kFirst;
    const Sums sums{out, 32}, second_sums{out + kFirst * 32, 32};
    for (int r = 0; r < kRows; ++r) store(sums.half(r, 0), __m256i{}), store(sums.half(r, 1), __m256i{});
    for (int64_t k = 0; k < l.packing.kp; k += kPanelK) {
      const int64_t quads = smaller(kPanelK, l.packing.kp - k) / 4;
      const Codes<kRows> codes(l.codes(0) + k, l.x_stride, quads);
      const Packed w{l.block(block) + k * 16};
      add_quads<kFirst>(w, codes.pairs, quads, sums);
      if constexpr (kSecond > 0) add_quads<kSecond>(w, codes.pairs + kFirst, quads, second_sums);
    }
  }

  static void expand(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    const Packed from{l.block(block) + k * 16};
    for (int64_t q = 0; q < count / 4; ++q, out += 2 * stride)
      for (int half = 0; half < 2; ++half) {
        store(out + half * 32, from.words(q, 0, half));
        store(out + stride + half * 32, from.words(q, 1, half));
      }
  }

  template <int kRows, int kBlocks>
  static void tile(const Tile& t) {
    const Codes<kRows> codes(t.x, t.x_stride, t.quads);
    for (int block = 0; block < kBlocks; ++block)
      add_quads<kRows>(Expanded{t.panel + block * 64, kBlocks * 64}, codes.pairs, t.quads,
                       Sums{t.sums + block * 16, kBlocks * 16});
  }
};

// Levels of a table, multiplied: words as int8 has them once widened. Few rows expand a panel's length of one block first.
template <int kBits>
struct Tables : Bytes {
  static void expand(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    using B = ByteLanes;
    const TablesOf<kBits> tables(l.levels());
    for (const int64_t end = k + count; k < end; k += 32, out += 16 * stride) {
      const uint8_t* planes = l.block(block) + l.packing.planes_of(k);
      const uint8_t* multipliers = l.block(block) + l.packing.table_multipliers_of(k);
      for (int at = 0; at < 64; at += B::kSize) {
        const B::V m = B::multipliers(multipliers + at / 4);
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; ++quad) {
          const B::V levels = levels_of<kBits>(tables.tables, planes + at, quad);
          store(out + 2 * quad * stride + at, B::even_words(levels, m));
          store(out + (2 * quad + 1) * stride + at, B::odd_words(levels, m));
        }
      }
    }
  }

  template <int kRows>
  static void dot(const Linear& l, int64_t block, const int32_t*, int32_t* out) {
    constexpr int kFirst = first_rows(kRows), kSecond = kRows - kFirst;
    const Sums sums{out, 32}, second_sums{out + kFirst * 32, 32};
    for (int r = 0; r < kRows; ++r) store(sums.half(r, 0), __m256i{}), store(sums.half(r, 1), __m256i{});
    alignas(32) uint8_t words[kPanelLines * 64];
    for (int64_t k = 0; k < l.packing.kp; k += kPanelK) {
      const int64_t count = smaller(kPanelK, l.packing.kp - k);
      expand(l, block, k, count, words, 64);
      const Codes<kRows> codes(l.codes(0) + k, l.x_stride, count / 4);
      add_quads<kFirst>(Expanded{words, 64}, codes.pairs, count / 4, sums);
      if constexpr (kSecond > 0) add_quads<kSecond>(Expanded{words, 64}, codes.pairs + kFirst, count / 4, second_sums);
    }
  }
};

// What integer.h asks of either, with the tiles and dots of every number of rows.
template <class Weights>
struct Inner : Weights {
  static constexpr int64_t panel_k(int64_t) { return Weights::kPanelK; }
  static int64_t expand(const Linear& l, int64_t block, int64_t blocks, int64_t k, const Tile& t) {
    for (int64_t b = 0; b < blocks; ++b) Weights::expand(l, block + b, k, t.quads * 4, t.panel + b * 64, blocks * 64);
    return 0;
  }
  static auto tile_of(int64_t rows, int64_t blocks) {
#define ROW(r) {Weights::template tile<r, 1>, Weights::template tile<r, 2>}
    static constexpr void (*kTiles[Weights::kTileRows][Weights::kPanelBlocks])(const Tile&) = {ROW(1), ROW(2), ROW(3),
                                                                                             ROW(4)};
#undef ROW
    return kTiles[rows - 1][blocks - 1];
  }
  static void run(const Command& command, const Call& call) {
#define DOT(r) Weights::template dot<r>
    static constexpr typename Integer<Inner>::Dot kDots[] = {DOT(1), DOT(2), DOT(3), DOT(4),
                                                             DOT(5), DOT(6), DOT(7), DOT(8)};
#undef DOT
    Integer<Inner>::run(command, call, kDots);
  }
};

}  // namespace

void linear_q8_q4b16(const Command& command, const Call& call) { Inner<Nibbles>::run(command, call); }
void linear_q8_q8b16(const Command& command, const Call& call) { Inner<Bytes>::run(command, call); }
void linear_q8_t2b16(const Command& command, const Call& call) { Inner<Tables<2>>::run(command, call); }
void linear_q8_t3b16(const Command& command, const Call& call) { Inner<Tables<3>>::run(command, call); }
void linear_q8_t4b16(const Command& command, const Call& call) { Inner<Tables<4>>::run(command, call); }
void linear_q8_t5b16(const Command& command, const Call& call) { Inner<Tables<5>>::run(command, call); }
void linear_q8_t6b16(const Command& command, const Call& call) { Inner<Tables<6>>::run(command, call); }
size_t linear_q8_scratch(const Command& command, int64_t max_rows) {
  return ints_of<LinearInts>(command).layout == kQ4B16 ? Integer<Inner<Nibbles>>::scratch(max_rows)
                                                       : Integer<Inner<Bytes>>::scratch(max_rows);
}

}  // namespace hearth::HEARTH_ISA
