// The unit of work of attention, query rows that share a KV head, and its part of scratch.
#pragma once

#include "attention/cache.h"
#include "attention/dots.h"
#include "attributes.h"
#include "rope/rotate.h"

namespace hearth::HEARTH_ISA {

constexpr int64_t kScoreBytes = 768 << 10;  // of a tile: they are written, then read, and should stay in L2
constexpr int64_t kLeastRows = 8;          // of a tile, however many positions there are

struct Shape {
  int64_t heads, head_dim, ratio, window;
  bool causal;
  CacheShape cache;
  Tables tables;
  float scale, cap;  // cap 0: none
  float k_scale, v_scale, v_zero;  // of a static cache alone, as k_zero
  int32_t k_zero;
  explicit Shape(const Command& c) : Shape(c, ints_of<AttentionInts>(c), c.opcode == kAttentionCapped) {}
  Shape(const Command& c, const AttentionInts& i, bool capped) : Shape(c, i, capped, floats_of<CacheFloats>(c, 1 + capped)) {}
  Shape(const Command& c, const AttentionInts& i, bool capped, const CacheFloats& f)
      : heads(i.heads), head_dim(i.head_dim), ratio(i.heads / i.kv_heads), window(i.window), causal(i.causal != 0),
        cache{i.kv_heads, i.head_dim, i.context},
        tables{row<const float>(c, 1, 0), row<const float>(c, 2, 0), i.rotary_dim / 2}, scale(c.floats[0]), cap(capped ? c.floats[1] : 0),
        k_scale(f.k_scale), v_scale(f.v_scale), v_zero(f.v_zero), k_zero(int32_t(f.k_zero)) {}
  int64_t padded() const { return align_up(head_dim, 16); }
  int64_t code_stride() const { return align_up(head_dim, 64); }
  // Positions, in whole blocks, between the first and the last that a tile attends to, of `end` in the cache.
  int64_t span(int64_t end) const {
    const int64_t seen = window > 0 ? window + kTile + 15 : end;
    return align_up(seen < end ? seen : end, kBlock);
  }
  int64_t most_rows(int64_t end) const {
    const int64_t rows = kScoreBytes / (span(end) * 4);
    return rows < kLeastRows ? kLeastRows : rows < kTile ? rows : kTile;
  }
};

struct Scratch {
  float *q, *o, *v, *scores;  // [kTile][padded], [kTile][padded], [kBlock][padded], [blocks][rows][kBlock]
  int8_t* codes;              // [kTile][code_stride]
  Scratch(const Shape& s, std::byte* at)
      : q(reinterpret_cast<float*>(at)), o(q + kTile * s.padded()), v(o + kTile * s.padded()),
        scores(v + kBlock * s.padded() + kTile * s.code_stride() / 4),
        codes(reinterpret_cast<int8_t*>(v + kBlock * s.padded())) {}
  // Enough for every position of the cache: more of them make narrower tiles, so a prompt's length changes nothing.
  static size_t nbytes(const Shape& s) {
    const int64_t row = s.span(s.cache.positions()) * 4;
    const int64_t most = kScoreBytes > kLeastRows * row ? kScoreBytes : kLeastRows * row;
    return (2 * kTile + kBlock) * s.padded() * 4 + kTile * s.code_stride() + (kTile * row < most ? kTile * row : most);
  }
};

// Query rows [first, first + rows) of a KV head, counted over (token, head of the group).
struct Tile {
  int64_t kv_head, first;
  int rows;
  int64_t origin, last;              // positions from a multiple of 16 to the end of the last row
  int64_t begin[kTile], end[kTile];  // positions each row attends to; neither falls from row to row
  Tile(const Shape& s, const Call& call, int64_t kv_head, int64_t first, int rows)
      : kv_head(kv_head), first(first), rows(rows) {
    for (int r = 0; r < rows; ++r) {
      end[r] = call.position + (s.causal ? token(s, r) + 1 : call.rows);
      begin[r] = s.window > 0 && end[r] > s.window ? end[r] - s.window : 0;
    }
    origin = begin[0] / 16 * 16;
    last = end[rows - 1];
  }
  int64_t token(const Shape& s, int r) const { return (first + r) / s.ratio; }
  int64_t column(const Shape& s, int r) const {
    return (kv_head * s.ratio + (first + r) % s.ratio) * s.head_dim;
  }
};

// Positions [begin, end) of a tile: a block, the last of them shorter; end is a multiple of 16 but where it is the tile's.
struct Block {
  int64_t begin, end;
  float* scores;  // [rows][kBlock]
  int64_t vectors() const { return (end - begin + 15) / 16; }
};

template <class F>
static inline void for_each_block(const Tile& tile, const Scratch& at, F f) {
  float* scores = at.scores;
  for (int64_t t = tile.origin; t < tile.last; t += kBlock, scores += tile.rows * kBlock)
    f(Block{t, t + kBlock < tile.last ? t + kBlock : tile.last, scores});
}

}  // namespace hearth::HEARTH_ISA
