// Attention over a cache, causal or not. A tile of up to kTile query rows that share a KV head is the unit of work; what a
// row gives does not depend on its tile, so tiles are made to suit the threads.
#include "attention/cache.h"
#include "attention/dots.h"
#include "attention/values.h"
#include "quantize.h"
#include "rope/rotate.h"
#include "sums.h"

namespace hearth::HEARTH_ISA {
namespace {

struct Shape {
  int64_t heads, head_dim, ratio, window;
  bool causal;
  CacheShape cache;
  Tables tables;
  float scale;
  explicit Shape(const Command& c)
      : heads(c.ints[0]), head_dim(c.ints[2]), ratio(c.ints[0] / c.ints[1]), window(c.ints[6]), causal(c.ints[7] != 0),
        cache{c.ints[1], c.ints[2], c.ints[4]},
        tables{row<const float>(c, 1, 0), row<const float>(c, 2, 0), c.ints[3] / 2}, scale(c.floats[0]) {}
  int64_t padded() const { return align_up(head_dim, 16); }
  int64_t code_stride() const { return align_up(head_dim, 64); }
  int64_t score_stride() const { return cache.positions(); }
};

// A tile's part of scratch.
struct Scratch {
  float *q, *o, *scores;  // [kTile][padded], [kTile][padded], [kTile][score_stride]
  int8_t* codes;          // [kTile][code_stride]
  Scratch(const Shape& s, std::byte* at)
      : q(reinterpret_cast<float*>(at)), o(q + kTile * s.padded()), scores(o + kTile * s.padded()),
        codes(reinterpret_cast<int8_t*>(scores + kTile * s.score_stride())) {}
  static size_t nbytes(const Shape& s) {
    return kTile * ((2 * s.padded() + s.score_stride()) * 4 + s.code_stride());
  }
};

// Query rows [first, first + rows) of a KV head, counted over (token, head of the group).
struct Tile {
  int64_t kv_head, first;
  int rows;
  int64_t origin;                         // the position of scores[0]: a multiple of 16
  int64_t begin[kTile], end[kTile];       // positions each row attends to
  float quantised_scale[kTile];           // int8 only: qs
  Tile(const Shape& s, const Call& call, int64_t kv_head, int64_t first, int rows)
      : kv_head(kv_head), first(first), rows(rows) {
    for (int r = 0; r < rows; ++r) {
      end[r] = call.position + (s.causal ? token(s, r) + 1 : call.rows);
      begin[r] = s.window > 0 && end[r] > s.window ? end[r] - s.window : 0;
    }
    origin = begin[0] / 16 * 16;
  }
  int64_t token(const Shape& s, int r) const { return (first + r) / s.ratio; }
  int64_t column(const Shape& s, int r) const {
    return (kv_head * s.ratio + (first + r) % s.ratio) * s.head_dim;
  }
};

void prepare_queries(const Shape& s, const Command& command, const Call& call, const Tile& tile, const Scratch& to) {
  for (int r = 0; r < tile.rows; ++r) {
    const int64_t m = tile.token(s, r), t = call.position + m;
    const float* x = row<const float>(command, 0, m) + tile.column(s, r);
    float* q = to.q + r * s.padded();
    if (s.tables.cos) rotate(x, s.tables.c(t), s.tables.s(t), s.tables.half, s.head_dim, q);
    else __builtin_memcpy(q, x, s.head_dim * 4);
    for (int64_t i = s.head_dim; i < s.padded(); ++i) q[i] = 0;
  }
}

// sum16 lanes of q . k[t]; a head of kVectors whole vectors (0: any) keeps q in registers.
template <class Values, int kVectors>
struct Products {
  const void* k;
  int64_t first, head_dim;  // the index in k of position 0
  const float* q;
  F32x16 kept[kVectors ? kVectors : 1];
  Products(const Shape& s, const void* k, int64_t kv_head, const float* q)
      : k(k), first(s.cache.at(kv_head, 0)), head_dim(s.head_dim), q(q) {
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

// scores[r][t - origin] of each row's own positions, what else is written there means nothing.
template <class Values>
struct FloatScores {
  static void compute(const Shape& s, const Command& command, Tile& tile, const Scratch& at) {
    switch (s.head_dim) {
      case 32: return rows<2>(s, command, tile, at);
      case 64: return rows<4>(s, command, tile, at);
      case 128: return rows<8>(s, command, tile, at);
      default: return rows<0>(s, command, tile, at);
    }
  }

  template <int kVectors>
  static void rows(const Shape& s, const Command& command, const Tile& tile, const Scratch& at) {
    const int64_t last = tile.end[tile.rows - 1];
    for (int64_t block = tile.origin; block < last; block += kBlock)  // stays in L1 for all rows
      for (int r = 0; r < tile.rows; ++r) {
        const Products<Values, kVectors> products(s, command.operand[3], tile.kv_head, at.q + r * s.padded());
        float* scores = at.scores + r * s.score_stride() - tile.origin;
        int64_t t = block > tile.begin[r] ? block : tile.begin[r];
        const int64_t end = block + kBlock < tile.end[r] ? block + kBlock : tile.end[r];
        for (; t + HEARTH_WIDTH <= end; t += HEARTH_WIDTH)
          store(scores + t, reduce_add_each([&](int i) { return products(t + i); }) * s.scale);
        for (; t < end; ++t) scores[t] = reduce_add(products(t)) * s.scale;
      }
  }
  static constexpr int64_t kBlock = 64;  // positions
};

struct Int8Scores {
  static void compute(const Shape& s, const Command& command, Tile& tile, const Scratch& at) {
    for (int r = 0; r < tile.rows; ++r) {
      const float* q = at.q + r * s.padded();
      const float most = max_abs(s.padded(), [&](int64_t i) { return load16(q + i); });
      const float inverse = inverse_scale(most);
      tile.quantised_scale[r] = scale_of(most);
      for (int64_t i = 0; i < s.padded(); i += 16) {
        const I8x16 codes = codes16(load16(q + i), inverse);
        __builtin_memcpy(at.codes + r * s.code_stride() + i, &codes, 16);
      }
    }
    const int64_t blocks = (tile.end[tile.rows - 1] - tile.origin + 15) / 16, stride = s.score_stride();
    int8_dots(at.codes, s.code_stride(), tile.rows,
              row<const int8_t>(command, 3, 0) + s.cache.block(tile.kv_head, tile.origin), blocks, s.cache.quads(),
              reinterpret_cast<int32_t*>(at.scores), stride);
    const float* scales = row<const float>(command, 4, 0) + s.cache.scale(tile.kv_head, tile.origin);
    for (int r = 0; r < tile.rows; ++r) {
      const float factor = tile.quantised_scale[r] * s.scale;
      float* scores = at.scores + r * stride;
      for (int64_t i = 0; i < blocks * 16; i += 16) {
        const F32x16 sums = to_float(load16_int(scores + i));
        store16(scores + i, sums * (load16(scales + i) * factor));
      }
    }
  }
};

// The lanes of scores[i ..] that belong to the row; all ones for an inner block.
inline I32x16 lanes_within(int64_t i, int64_t begin, int64_t end) {
  static constexpr int32_t kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const I32x16 lane = load16_int(kLanes);
  return (lane >= int32_t(begin - i > 0 ? begin - i : 0)) & (lane < int32_t(end - i < 16 ? end - i : 16));
}

// Scores to weights in place: exp(s - max), times the scale of V where it has one. Returns 1 / sum of exp.
float weigh(float* scores, int64_t begin, int64_t end, const float* v_scales) {
  const F32x16 lowest = splat(-__builtin_inff());
  F32x16 most = lowest;
  for (int64_t i = begin / 16 * 16; i < end; i += 16)
    most = max16(most, select16(lanes_within(i, begin, end), load16(scores + i), lowest));
  const float m = reduce_max(most);
  F32x16 sum{};
  for (int64_t i = begin / 16 * 16; i < end; i += 16) {
    const F32x16 e = select16(lanes_within(i, begin, end), exp16(load16(scores + i) - m), F32x16{});
    sum = sum + e;
    store16(scores + i, v_scales ? e * load16(v_scales + i) : e);
  }
  return 1.0f / reduce_add(sum);
}

// Positions that all rows attend to are read once for the tile; those of some rows only, row by row.
template <class Values>
void gather_values(const Shape& s, const Command& command, const Tile& tile, const Scratch& at) {
  const int64_t padded = s.padded(), stride = s.score_stride(), origin = tile.origin;
  const WeightedSum sum{command.operand[5], s.cache.at(tile.kv_head, 0), s.head_dim,
                        at.scores - origin, stride, at.o, padded};
  const int64_t begin = tile.begin[tile.rows - 1], end = tile.end[0];
  const bool common = begin < end;
  for (int r = 0; r < tile.rows; ++r) {
    WeightedSum one = sum;
    one.w += r * stride;
    one.o += r * padded;
    for (int64_t i = 0; i < padded; ++i) one.o[i] = 0;
    add_values<Values>(one, 1, tile.begin[r], common ? begin : tile.end[r]);
  }
  if (!common) return;
  add_values<Values>(sum, tile.rows, begin, end);
  for (int r = 0; r < tile.rows; ++r) {
    WeightedSum one = sum;
    one.w += r * stride;
    one.o += r * padded;
    add_values<Values>(one, 1, end, tile.end[r]);
  }
}

template <class Values, class Scores>
void attend(const Shape& s, const Command& command, const Call& call, Tile tile) {
  const Scratch at(s, call.scratch);
  prepare_queries(s, command, call, tile, at);
  Scores::compute(s, command, tile, at);
  const float* v_scales = row<const float>(command, 6, 0);
  if (v_scales) v_scales += s.cache.scale(tile.kv_head, tile.origin);
  float inverse[kTile];
  for (int r = 0; r < tile.rows; ++r)
    inverse[r] = weigh(at.scores + r * s.score_stride(), tile.begin[r] - tile.origin, tile.end[r] - tile.origin,
                       v_scales);
  gather_values<Values>(s, command, tile, at);
  for (int r = 0; r < tile.rows; ++r) {
    float* y = row<float>(command, 7, tile.token(s, r)) + tile.column(s, r);
    const float* o = at.o + r * s.padded();
    for (int64_t i = 0; i < s.head_dim; i += 16) store_upto(y + i, load16(o + i) * inverse[r], s.head_dim - i);
  }
}

template <class Values, class Scores>
void attention(const Command& command, const Call& call) {
  const Shape s(command);
  const int64_t rows = call.rows * s.ratio;  // of one KV head
  const int64_t wanted = (call.threads + s.cache.heads - 1) / s.cache.heads;
  int64_t tiles = (rows + kTile - 1) / kTile;
  if (tiles < wanted) tiles = wanted < rows ? wanted : rows;
  // Later rows have more to do, so threads take turns, there and back.
  const int64_t round = 2 * call.threads;
  for (int64_t unit = 0; unit < s.cache.heads * tiles; ++unit) {
    const int64_t turn = unit % round, owner = turn < call.threads ? turn : round - 1 - turn;
    if (owner != call.thread) continue;
    const int64_t index = unit % tiles, first = rows * index / tiles, last = rows * (index + 1) / tiles;
    attend<Values, Scores>(s, command, call, Tile(s, call, unit / tiles, first, int(last - first)));
  }
}

}  // namespace

void attention_f32(const Command& command, const Call& call) {
  attention<F32Values, FloatScores<F32Values>>(command, call);
}
void attention_f16(const Command& command, const Call& call) {
  attention<F16Values, FloatScores<F16Values>>(command, call);
}
void attention_int8(const Command& command, const Call& call) { attention<Int8Values, Int8Scores>(command, call); }

size_t attention_scratch(const Command& command, int64_t) { return Scratch::nbytes(Shape(command)); }

}  // namespace hearth::HEARTH_ISA
