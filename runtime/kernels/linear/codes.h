// Packed codes as f32 weights, a line of 64 bytes (kPerLine values of K of 16 channels) at a time: straight into fma
// for few rows, into a panel for many.
//
// A code at bit s of the low half of a lane becomes a float by giving it the exponent of 2^(23 - s): 2^(23 - s) + code,
// exact, as are its difference with another such float and the product of a code and a multiplier.
#pragma once

#include "linear/float_tile.h"
#include "linear/levels.h"

namespace hearth::HEARTH_ISA {

// Bytes of a block fetched ahead by hand: with so much to do per line the core does not run ahead by itself.
constexpr int64_t kAhead = 2048;

constexpr int32_t exponent_of(int bit) { return (127 + 23 - bit) << 23; }

template <int kBits>
struct CodeLine {
  static constexpr int kBytes = kBits * 2, kPerLine = 32 / kBits;  // of codes per k; k in a line
  static constexpr int kPlaces = 16 / kBits;                       // of codes in half a lane
  const uint8_t* low;
  I32x16 high;  // the upper half of each lane, shifted down
  CodeLine() = default;
  explicit CodeLine(const uint8_t* p) : low(p), high(load_i32(p) >> 16) {}

  static constexpr int bit_of_lane(int j) { return kBits == 4 ? 8 * (j % 4) + j / 4 * 4 : 8 * j; }
  static constexpr int place(int j) { return bit_of_lane(j) % 16 / kBits; }  // of the j-th k in its half
};

// What lifts codes; kept in registers or on the stack, where a constant would be made anew from an integer each time.
static inline I32x16 kept(int32_t value) {
  I32x16 v = splat_int(value);
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__AVX2__)
  asm("" : "+x"(v.low));
  asm("" : "+x"(v.high));
#endif
  return v;
}

template <int kBits, bool kSigned>
struct Lift {
  using Line = CodeLine<kBits>;
  I32x16 mask[Line::kPlaces], flipped[Line::kPlaces];
  Lift() {
#pragma GCC unroll 4
    for (int i = 0; i < Line::kPlaces; ++i) {
      mask[i] = kept(((1 << kBits) - 1) << (kBits * i));
      flipped[i] = kept(exponent_of(kBits * i) | (kSigned ? 1 << (kBits * i + kBits - 1) : 0));
    }
  }
  // 2^(23 - s) + the code of the line's j-th k, s being the bit of its place; of signed codes, 2^(kBits - 1) more.
  template <int j>
  F32x16 of(const Line& line) const {
    constexpr int i = Line::place(j);
#if defined(__AVX512F__)
    // The instruction overwrites its operand. A copy takes an arithmetic unit's time, another load does not.
    __m512i v;
    asm("vmovdqu32 %1, %0\n\tvpternlogd $0x6a, %3, %2, %0"
        : "=&v"(v)
        : "m"(*reinterpret_cast<const Bytes*>(Line::bit_of_lane(j) < 16 ? line.low : (const uint8_t*)&line.high)),
          "v"((__m512i)mask[i]), "v"((__m512i)flipped[i]));
    return (F32x16)v;
#else
    const I32x16 half = Line::bit_of_lane(j) < 16 ? load_i32(line.low) : line.high;
    return bits_to_float((half & mask[i]) ^ flipped[i]);
#endif
  }
#if defined(__AVX512F__)
  typedef int32_t Bytes __attribute__((vector_size(64), aligned(1), may_alias));
#endif
  // What the codes of place i are lifted by, and `more`.
  static constexpr float base(int i, int more) { return float((1 << (23 - kBits * i)) + more); }
};

// The weights of one block. group(l, g) reads what the values of a group share; weight<j>(lift, line) is w of the line's
// j-th k.
struct Q8Codes {
  using Line = CodeLine<8>;
  using Lift = HEARTH_ISA::Lift<8, true>;
  const uint8_t* codes;
  Q8Codes() = default;
  explicit Q8Codes(const uint8_t* block) : codes(block) {}
  static int64_t group_of(const Linear& l) { return l.packing.kp; }
  void group(const Linear&, int64_t) {}
  template <int j>
  F32x16 weight(const Lift& lift, const Line& line) const {
    return lift.of<j>(line) - Lift::base(Line::place(j), 128);
  }
};

struct Q4Codes {
  using Line = CodeLine<4>;
  using Lift = HEARTH_ISA::Lift<4, false>;
  const uint8_t *block, *codes;  // codes: of k = 0, were the group's to start there
  F32x16 multiplier;
  Q4Codes() = default;
  explicit Q4Codes(const uint8_t* block) : block(block), codes(block) {}
  static int64_t group_of(const Linear& l) { return l.group; }
  void group(const Linear& l, int64_t g) {
    const int64_t k = g << l.packing.group_log2;
    I8x16 m;
    __builtin_memcpy(&m, block + l.packing.multipliers_of(k), 16);
    multiplier = to_float(widen(m));
    codes = block + l.packing.nibbles_of(k) - k * Line::kBytes;
  }
  template <int j>
  F32x16 weight(const Lift& lift, const Line& line) const {
    return (lift.of<j>(line) - Lift::base(Line::place(j), 8)) * multiplier;
  }
};

// Levels of a table: 32 values of K at a time are expanded to the bytes that q8b16 would have.
template <int kBits>
struct TableCodes : Q8Codes {
  const uint8_t* block;
  alignas(64) uint8_t lines[8 * 64];
  TableCodes() = default;
  explicit TableCodes(const uint8_t* block) : block(block) {}
  static int64_t group_of(const Linear&) { return 32; }
  void group(const Linear& l, int64_t g) {
    const uint8_t* planes = block + l.packing.planes_of(g * 32);
    for (int i = 0; i < kBits; ++i) __builtin_prefetch(planes + kAhead + i * 64);
    expand_levels<kBits>(l.levels(), block + l.packing.table_multipliers_of(g * 32), planes, lines);
    codes = lines - g * 32 * Line::kBytes;
  }
};

// float(code - zero) * scale.
template <int kBits>
struct GroupedCodes {
  using Line = CodeLine<kBits>;
  using Lift = HEARTH_ISA::Lift<kBits, false>;
  const uint8_t *block, *codes;
  F32x16 scale, zeros[Line::kPlaces];  // the zero point, lifted as the codes of a place
  GroupedCodes() = default;
  explicit GroupedCodes(const uint8_t* block) : block(block), codes(block) {}
  static int64_t group_of(const Linear& l) { return l.group; }
  void group(const Linear& l, int64_t g) {
    const Group place(l.packing, g, Line::kBytes);
    I8x16 points;
    __builtin_memcpy(&points, block + place.zeros, 16);
    const I32x16 zero = widen(points) & 255;
#pragma GCC unroll 4
    for (int i = 0; i < Line::kPlaces; ++i)
      zeros[i] = bits_to_float((zero << (kBits * i)) | exponent_of(kBits * i));
    scale = load16(reinterpret_cast<const float*>(block + place.scales));
    codes = block + place.codes;
  }
  template <int j>
  F32x16 weight(const Lift& lift, const Line& line) const {
    return (lift.template of<j>(line) - zeros[Line::place(j)]) * scale;
  }
};

// f(integral constant j) for j in 0 .. count.
template <int j>
struct Index {
  static constexpr int value = j;
};
template <int count, int j = 0, class F>
[[gnu::always_inline]] static inline void each_of_line(F f) {
  f(Index<j>{});
  if constexpr (j + 1 < count) each_of_line<count, j + 1>(f);
}

// w[k .. k + count] of one block as rows of 16 floats, `step` floats apart; k is a multiple of 64.
template <class Codes>
static void read_codes(const Linear& l, const uint8_t* block, int64_t k, int64_t count, float* out, int64_t step) {
  using Line = typename Codes::Line;
  const int64_t end = k + count, group = Codes::group_of(l);
  const typename Codes::Lift lift;
  Codes codes(block);
  for (int64_t at = k; at < end;) {
    const int64_t g = at / group, stop = smaller(end, (g + 1) * group);
    codes.group(l, g);
    for (; at < stop; at += Line::kPerLine, out += Line::kPerLine * step) {
      const Line line(codes.codes + at * Line::kBytes);
      if (at + Line::kPerLine <= stop)
        each_of_line<Line::kPerLine>(
            [&](auto j) { store16(out + j.value * step, codes.template weight<j.value>(lift, line)); });
      else
        each_of_line<Line::kPerLine>([&](auto j) {
          if (at + j.value < stop) store16(out + j.value * step, codes.template weight<j.value>(lift, line));
        });
    }
  }
}

// sums[r][b] = x[row + r] . w[block + b] over all k; rows of sums lie `sums_stride` floats apart.
template <class Codes, int kRows, int kBlocks>
static void codes_tile(const Linear& l, int64_t block, int64_t row, float* sums, int64_t sums_stride) {
  using Line = typename Codes::Line;
  const typename Codes::Lift lift;
  Lanes acc[kRows][kBlocks];
  Codes codes[kBlocks];
#pragma GCC unroll 8
  for (int b = 0; b < kBlocks; ++b) {
    codes[b] = Codes(l.block(block + b));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) acc[r][b] = lanes_of(F32x16{});
  }
  const int64_t x_stride = l.x_stride, group = Codes::group_of(l);
  const uint8_t* x = l.x + row * x_stride;
  for (int64_t k = 0, g = 0; k < l.k; ++g) {
    const int64_t stop = smaller(l.k, (g + 1) * group);
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) codes[b].group(l, g);
    for (; k < stop; k += Line::kPerLine, x += Line::kPerLine * 4) {
      Line lines[kBlocks];
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) {
        const uint8_t* at = codes[b].codes + k * Line::kBytes;
        lines[b] = Line(at);
        __builtin_prefetch(at + kAhead);
      }
      const auto multiply = [&](auto j) {
#pragma GCC unroll 8
        for (int b = 0; b < kBlocks; ++b) {
          const Lanes w = lanes_of(codes[b].template weight<j.value>(lift, lines[b]));
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r)
            acc[r][b].fma(*reinterpret_cast<const float*>(x + r * x_stride + j.value * 4), w);
        }
      };
      if (k + Line::kPerLine <= stop) each_of_line<Line::kPerLine>(multiply);
      else
        each_of_line<Line::kPerLine>([&](auto j) {
          if (k + j.value < stop) multiply(j);
        });
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) acc[r][b].store(sums + r * sums_stride + b * 16);
}

}  // namespace hearth::HEARTH_ISA
