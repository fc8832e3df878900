// scores[r][t] = q[r] . k[t] * scale of a block of positions: the first product of attention, for each kind of cache.
#pragma once

#include "attention/tile.h"
#include "quantize.h"
#include "sums.h"

namespace hearth::HEARTH_ISA {

// kStatic: K has one scale and one zero point in the command, else a scale for each position and head.
template <bool kStatic>
struct Int8Scores {
  const Shape& s;
  const Tile& tile;
  const Scratch& at;
  const int8_t* k;
  const float* k_scales;
  float factor[kTile];
  int32_t sums[kTile];

  Int8Scores(const Shape& s, const Command& command, const Tile& tile, const Scratch& at)
      : s(s), tile(tile), at(at), k(row<const int8_t>(command, 3, 0) + s.cache.block(tile.kv_head, 0)),
        k_scales(kStatic ? nullptr : row<const float>(command, 4, 0) + s.cache.scale(tile.kv_head, 0)) {
    for (int r = 0; r < tile.rows; ++r) {
      const float* q = at.q + r * s.padded();
      const float most = max_abs(s.padded(), [&](int64_t i) { return load16(q + i); });
      const float inverse = inverse_scale(most);
      I32x16 sum{};
      for (int64_t i = 0; i < s.padded(); i += 16) {
        const I8x16 codes = codes16(load16(q + i), inverse);
        __builtin_memcpy(at.codes + r * s.code_stride() + i, &codes, 16);
        sum = sum + widen(codes);
      }
      sums[r] = reduce_add_int(sum);
      factor[r] = scale_of(most) * s.scale;
      if (kStatic) factor[r] = factor[r] * s.k_scale;
    }
  }

  void operator()(const Block& block) const {
    const int64_t n = block.vectors();
    int8_dots(at.codes, s.code_stride(), sums, tile.rows, k + block.begin * s.cache.quads() * 4, n, s.cache.quads(),
              reinterpret_cast<int32_t*>(block.scores), kBlock);
    for (int r = 0; r < tile.rows; ++r)
      for (int64_t i = 0; i < n * 16; i += 16) {
        float* score = block.scores + r * kBlock + i;
        const I32x16 sum = load16_int(score);
        if constexpr (kStatic) store16(score, to_float(sum - s.k_zero * sums[r]) * factor[r]);
        else store16(score, to_float(sum) * (load16(k_scales + block.begin + i) * factor[r]));
      }
  }
};

// sum16 lanes of q . k[t]; a head of kVectors whole vectors (0: any) keeps q in registers.
template <class Values, int kVectors>
struct Products {
  const void* k;
  int64_t first, head_dim;  // the index in k of position 0
  const float* q;
  F32x16 kept[kVectors ? kVectors : 1];
  Products(const void* k, int64_t first, int64_t head_dim, const float* q)
      : k(k), first(first), head_dim(head_dim), q(q) {
    for (int i = 0; i < kVectors; ++i) kept[i] = load16(q + 16 * i);
  }
  [[gnu::always_inline]] F32x16 operator()(int64_t t) const {
    const int64_t from = first + t * head_dim;
    F32x16 sum{};
    if constexpr (kVectors > 0) {
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) sum = sum + kept[i] * Values::read(k, from + 16 * i);
    } else {
      for (int64_t i = 0; i < head_dim; i += 16)
        sum = sum + load16(q + i) * Values::read(k, from + i, head_dim - i);
    }
    return sum;
  }
};

// q . k[t] of HEARTH_WIDTH positions, one in each lane, from a transposed K: the same 16 partial sums and the same tree.
template <int rows>
struct Lanes {
  const float *q, *k;  // q[r * padded + d], k[d * HEARTH_WIDTH + lane]
  int64_t padded;
  struct Sums {
    Floats of[rows];
  };
  // Partial sum `j`, and all that the tree adds to it above level `h`.
  template <int j, int h>
  [[gnu::always_inline]] Sums partial() const {
    Sums sum;
    if constexpr (h == 16) {
      Floats value;
      load(value, k + j * HEARTH_WIDTH);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) sum.of[r] = value * q[r * padded + j] + 0.0f;
      for (int64_t d = j + 16; d < padded; d += 16) {
        load(value, k + d * HEARTH_WIDTH);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) sum.of[r] = sum.of[r] + value * q[r * padded + d];
      }
    } else {
      sum = partial<j, 2 * h>();
      const Sums other = partial<j + h, 2 * h>();
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) sum.of[r] = sum.of[r] + other.of[r];
    }
    return sum;
  }
};

template <class Values>
struct FloatScores {
  const Shape& s;
  const Tile& tile;
  const Scratch& at;
  const void* k;
  int64_t first;  // the index in k of position 0

  FloatScores(const Shape& s, const Command& command, const Tile& tile, const Scratch& at)
      : s(s), tile(tile), at(at), k(command.operand[3]), first(s.cache.at(tile.kv_head, 0)) {}

  void operator()(const Block& block) const {
    if (kTransposed && tile.rows >= kTransposed) return by_lanes(block);
    switch (s.head_dim) {
      case 32: return by_rows<2>(block);
      case 64: return by_rows<4>(block);
      case 128: return by_rows<8>(block);
      default: return by_rows<0>(block);
    }
  }

 private:
  static constexpr int kTransposed = HEARTH_WIDTH == 16 ? 12 : 0;  // rows from which on it pays to transpose K; 0: never

  template <int kVectors>
  void by_rows(const Block& block) const {
    for (int r = 0; r < tile.rows; ++r) {
      const Products<Values, kVectors> products(k, first, s.head_dim, at.q + r * s.padded());
      float* scores = block.scores + r * kBlock - block.begin;
      int64_t t = block.begin;
      for (; t + HEARTH_WIDTH <= block.end; t += HEARTH_WIDTH)
        store(scores + t, reduce_add_each([&](int i) { return products(t + i); }) * s.scale);
      for (; t < block.end; ++t) scores[t] = reduce_add(products(t)) * s.scale;
    }
  }

  void by_lanes(const Block& block) const {
    for (int64_t t = block.begin; t < block.end; t += HEARTH_WIDTH) {
      transpose(t, block.end - t);
      float* scores = block.scores + t - block.begin;
      int r = 0;
      for (; r + kRows <= tile.rows; r += kRows) lanes<kRows>(r, scores);
      for (; r < tile.rows; ++r) lanes<1>(r, scores);
    }
  }
  static constexpr int kRows = 4;

  template <int rows>
  void lanes(int r, float* scores) const {
    const Lanes<rows> all{at.q + r * s.padded(), at.v, s.padded()};
    const auto sum = all.template partial<0, 1>();
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) store(scores + (r + i) * kBlock, sum.of[i] * s.scale);
  }

  // at.v[d][lane] = k[t + lane][d], +0 beyond n positions and the head.
  void transpose(int64_t t, int64_t n) const {
    for (int64_t d = 0; d < s.padded(); d += 16) {
      float rows[HEARTH_WIDTH * 16];
      for (int i = 0; i < HEARTH_WIDTH; ++i)
        store16(rows + 16 * i, i < n ? Values::read(k, first + (t + i) * s.head_dim + d, s.head_dim - d) : F32x16{});
      for (int c = 0; c < 16; c += HEARTH_WIDTH) {
        Floats v[HEARTH_WIDTH];
        for (int i = 0; i < HEARTH_WIDTH; ++i) load(v[i], rows + 16 * i + c);
        transpose_square(v);
        for (int i = 0; i < HEARTH_WIDTH; ++i) store(at.v + (d + c + i) * HEARTH_WIDTH, v[i]);
      }
    }
  }
};

}  // namespace hearth::HEARTH_ISA
