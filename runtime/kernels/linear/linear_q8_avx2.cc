// Integer linears on AVX2, without saturation. vpmaddubsw adds two products of an unsigned and a signed byte in
// 16 bits: nibbles (code + 8 <= 15) leave room for a whole step of 32 values, bytes take |w| and the sign of w on
// the activation (127 * 127 * 2 fits).
#include <immintrin.h>

#include "linear/integer.h"

namespace hearth::HEARTH_ISA {
namespace {

__m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
__m256i four_codes(const int8_t* a) {  // 4 codes of a row, for every channel
  int32_t word;
  __builtin_memcpy(&word, a, 4);
  return _mm256_set1_epi32(word);
}
// Each of 8 multipliers as two equal 16-bit values.
__m256i multipliers16(const uint8_t* m) {
  const __m256i words = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(m)));
  return _mm256_or_si256(_mm256_slli_epi32(words, 16), _mm256_and_si256(words, _mm256_set1_epi32(0xffff)));
}
void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// int4: panels of nibbles and multipliers, so that the products of a group are added in 16 bits.
struct Nibbles {
  static constexpr int kFewRows = 4, kTileRows = 3, kPanelBlocks = 2;
  static constexpr int64_t kPanelK = 512, kPanelLines = kPanelK / 32 * 9;
  static constexpr int32_t kWeightOffset = 0;

  // Steps of 32 values; |sum of code * a - ...| fits 16 bits: 8 * 127 * 32 at the end, wrapping on the way.
  template <int kRows>
  static void dot(const Linear& l, int64_t block, const int32_t*, int32_t* sums) {
    const uint8_t* w = l.block(block);
    const int8_t* a = l.codes(0);
    const int32_t* a_sums = l.sums(0);
    const int64_t sums_stride = l.x_stride / 4, steps = l.packing.kp / 32, steps_per_group = l.group / 32;
    __m256i total[2][kRows] = {};
    for (int64_t step = 0; step < steps;) {
      const uint8_t* m = w;
      w += 64;
      for (const int64_t end = smaller(steps, step + 4 * steps_per_group); step < end; m += 16)
        for (int64_t i = 0; i < steps_per_group; ++i, ++step, w += 256, a += 32, ++a_sums)
#pragma GCC unroll 2
          for (int half = 0; half < 2; ++half) {
            __m256i dot[kRows];
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) dot[r] = _mm256_set1_epi32(nibble_offset(a_sums[r * sums_stride]) & 0xffff);
            products<kRows>(w + half * 32, a, l.x_stride, dot);
            const __m256i multiplier = multipliers16(m + half * 8);
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r)
              total[half][r] = _mm256_add_epi32(total[half][r], _mm256_madd_epi16(dot[r], multiplier));
          }
    }
    for (int r = 0; r < kRows; ++r)
      for (int half = 0; half < 2; ++half) store(sums + r * 32 + half * 8, total[half][r]);
  }

  template <int kRows>
  static inline void products(const uint8_t* w, const int8_t* a, int64_t a_stride, __m256i* dot) {
    const __m256i nibble = _mm256_set1_epi8(0x0f);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m256i bytes = load(w + i * 64);
      const __m256i low = _mm256_and_si256(bytes, nibble);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const int8_t* codes = a + r * a_stride + i * 8;
        dot[r] = _mm256_add_epi16(dot[r], _mm256_maddubs_epi16(low, four_codes(codes)));
        dot[r] = _mm256_add_epi16(dot[r], _mm256_maddubs_epi16(high, four_codes(codes + 4)));
      }
    }
  }

  // Per 32 values: a line of multipliers (twice each, 16 bits), then 8 lines of nibbles.
  static void expand(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    for (const int64_t end = k + count; k < end; k += 32, out += 9 * stride) {
      const uint8_t* w = l.block(block) + l.packing.nibbles_of(k);
      for (int half = 0; half < 2; ++half) {
        uint8_t* to = out + half * 32;
        store(to, multipliers16(l.block(block) + l.packing.multipliers_of(k) + half * 8));
        for (int i = 0; i < 4; ++i) {
          const __m256i bytes = load(w + i * 64 + half * 32);
          store(to += stride, _mm256_and_si256(bytes, nibble));
          store(to += stride, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
        }
      }
    }
  }

  template <int kRows, int kBlocks>
  static void tile(const Tile& t) {
    for (int block = 0; block < kBlocks; ++block) {
      int32_t* sums = t.sums + block * 16;
      const uint8_t* w = t.panel + block * 64;
      const int8_t* x = t.x;
      const int32_t* x_sums = t.x_sums;
      __m256i acc[kRows][2];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) acc[r][h] = load(sums + r * kBlocks * 16 + h * 8);
      for (int64_t q = 0; q < t.quads; q += 8, x += 32, ++x_sums) {
        __m256i dot[kRows][2];
        const __m256i low_m = load(w), high_m = load(w + 32);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r)
          dot[r][0] = dot[r][1] = _mm256_set1_epi32(nibble_offset(x_sums[r * t.x_stride / 4]) & 0xffff);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
          const __m256i low = load(w += kBlocks * 64), high = load(w + 32);
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            const __m256i codes = four_codes(x + r * t.x_stride + i * 4);
            dot[r][0] = _mm256_add_epi16(dot[r][0], _mm256_maddubs_epi16(low, codes));
            dot[r][1] = _mm256_add_epi16(dot[r][1], _mm256_maddubs_epi16(high, codes));
            asm("" : "+x"(dot[r][0]), "+x"(dot[r][1]));  // no tree of sums, which would spill the products
          }
        }
        w += kBlocks * 64;
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(dot[r][0], low_m));
          acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(dot[r][1], high_m));
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) store(sums + r * kBlocks * 16 + h * 8, acc[r][h]);
    }
  }

  static Integer<Nibbles>::TileFn tile_of(int64_t rows, int64_t blocks) {
#define ROW(r) {tile<r, 1>, tile<r, 2>}
    static constexpr Integer<Nibbles>::TileFn kTiles[kTileRows][kPanelBlocks] = {ROW(1), ROW(2), ROW(3)};
#undef ROW
    return kTiles[rows - 1][blocks - 1];
  }
};

struct Bytes {
  static constexpr int kFewRows = 4, kTileRows = 4, kPanelBlocks = 2;
  static constexpr int64_t kPanelK = 512, kPanelLines = kPanelK / 4;
  static constexpr int32_t kWeightOffset = 0;

  static __m256i multiply_add(__m256i sum, __m256i w, __m256i size, __m256i codes) {
    const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(codes, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  template <int kRows>
  static void dot(const Linear& l, int64_t block, const int32_t*, int32_t* sums) {
    const uint8_t* w = l.block(block);
    const int8_t* a = l.codes(0);
    __m256i total[2][kRows] = {};
    for (int64_t k = 0; k < l.packing.kp; k += 4, w += 64, a += 4)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i bytes = load(w + half * 32), size = _mm256_abs_epi8(bytes);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r)
          total[half][r] = multiply_add(total[half][r], bytes, size, four_codes(a + r * l.x_stride));
      }
    for (int r = 0; r < kRows; ++r)
      for (int half = 0; half < 2; ++half) store(sums + r * 32 + half * 8, total[half][r]);
  }

  static void expand(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    const uint8_t* w = l.block(block) + k * 16;
    for (int64_t i = 0; i < count / 4; ++i) __builtin_memcpy(out + i * stride, w + i * 64, 64);
  }

  template <int kRows, int kBlocks>
  static void tile(const Tile& t) {
    for (int half = 0; half < 2 * kBlocks; half += 2) {
      __m256i acc[kRows][2];
      int32_t* sums = t.sums + half * 8;
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) acc[r][h] = load(sums + r * kBlocks * 16 + h * 8);
      const uint8_t* w = t.panel + half * 32;
      const int8_t* x = t.x;
      for (int64_t q = 0; q < t.quads; ++q, w += kBlocks * 64, x += 4)
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          const __m256i bytes = load(w + h * 32), size = _mm256_abs_epi8(bytes);
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r)
            acc[r][h] = multiply_add(acc[r][h], bytes, size, four_codes(x + r * t.x_stride));
        }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h)
          store(sums + r * kBlocks * 16 + h * 8, acc[r][h]);
    }
  }

  static Integer<Bytes>::TileFn tile_of(int64_t rows, int64_t blocks) {
#define ROW(r) {tile<r, 1>, tile<r, 2>}
    static constexpr Integer<Bytes>::TileFn kTiles[kTileRows][kPanelBlocks] = {ROW(1), ROW(2), ROW(3), ROW(4)};
#undef ROW
    return kTiles[rows - 1][blocks - 1];
  }
};

template <class Inner>
void run(const Command& command, const Call& call) {
  static constexpr typename Integer<Inner>::Dot kDots[] = {
      Inner::template dot<1>, Inner::template dot<2>, Inner::template dot<3>, Inner::template dot<4>};
  Integer<Inner>::run(command, call, kDots, Inner::expand);
}

}  // namespace

void linear_q8_q4b16(const Command& command, const Call& call) { run<Nibbles>(command, call); }
void linear_q8_q8b16(const Command& command, const Call& call) { run<Bytes>(command, call); }
size_t linear_q8_scratch(const Command& command, int64_t max_rows) {
  return command.ints[2] == kQ4B16 ? Integer<Nibbles>::scratch(max_rows) : Integer<Bytes>::scratch(max_rows);
}

}  // namespace hearth::HEARTH_ISA
