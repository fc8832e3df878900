// Attention over a cache, causal or not. A tile of query rows that share a KV head is the unit of work; what a row
// gives does not depend on its tile, so tiles are made to suit the caches and the threads.
#include "attention/scores.h"
#include "attention/values.h"

namespace hearth::HEARTH_ISA {
namespace {

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

// The lanes of positions t .. t + 15 that the row attends to.
inline I32x16 lanes_within(int64_t t, int64_t begin, int64_t end) {
  static constexpr int32_t kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const I32x16 lane = load16_int(kLanes);
  const int64_t first = begin - t > 0 ? begin - t : 0, last = end - t > 0 ? end - t : 0;
  return (lane >= int32_t(first < 16 ? first : 16)) & (lane < int32_t(last < 16 ? last : 16));
}

// Whether the row attends to every position of a block of full size, the case that is worth loops without masks.
inline bool whole(const Tile& tile, const Block& block, int r) {
  return tile.begin[r] <= block.begin && block.begin + kBlock <= tile.end[r];
}

// Of what lies beyond a row's positions too: nothing reads it.
[[gnu::noinline]] void cap_scores(const Block& block, int rows, float cap) {
  for (int r = 0; r < rows; ++r)
    for (int64_t i = 0; i < block.vectors() * 16; i += 16) {
      float* score = block.scores + r * kBlock + i;
      store16(score, soft_cap16(load16(score), cap));
    }
}

// The largest score of each row, capped where there is a cap.
template <class Scores>
void score(const Tile& tile, const Scratch& at, const Scores& scores, float cap, float* largest) {
  const F32x16 lowest = splat(-__builtin_inff());
  F32x16 most[kTile];
  for (int r = 0; r < tile.rows; ++r) most[r] = lowest;
  for_each_block(tile, at, [&](const Block& block) {
    scores(block);
    if (cap != 0) cap_scores(block, tile.rows, cap);
    for (int r = 0; r < tile.rows; ++r) {
      const float* at = block.scores + r * kBlock;
      F32x16 m = most[r];
      if (whole(tile, block, r)) {
#pragma GCC unroll 4
        for (int i = 0; i < kBlock; i += 16) m = max16(m, load16(at + i));
      } else {
        for (int64_t i = 0; i < block.end - block.begin; i += 16)
          m = max16(m, select16(lanes_within(block.begin + i, tile.begin[r], tile.end[r]), load16(at + i), lowest));
      }
      most[r] = m;
    }
  });
  for (int r = 0; r < tile.rows; ++r) largest[r] = reduce_max(most[r]);
}

// Four vectors of a block at once keep a core busy, one exp16 alone is a chain.
struct FourOf {
  Pair<Pair<F32x16>> v;
  explicit FourOf(const float* p) : v{{load16(p), load16(p + 16)}, {load16(p + 32), load16(p + 48)}} {}
};

// Scores to weights in place: exp(s - max), times the scale of V where it has one, +0 where a row does not attend.
void weigh(const Tile& tile, const Block& block, const float* largest, const float* v_scales, F32x16* sums) {
  static_assert(kBlock == 64);
  for (int r = 0; r < tile.rows; ++r) {
    F32x16 sum = sums[r];
    float* at = block.scores + r * kBlock;
    if (whole(tile, block, r)) {
      const auto e = exp16(FourOf(at).v - largest[r]);
      const auto w = v_scales ? e * FourOf(v_scales + block.begin).v : e;
      sum = (((sum + e.low.low) + e.low.high) + e.high.low) + e.high.high;
      store16(at, w.low.low), store16(at + 16, w.low.high), store16(at + 32, w.high.low), store16(at + 48, w.high.high);
    } else {
      for (int64_t i = 0; i < block.end - block.begin; i += 16) {
        const I32x16 lanes = lanes_within(block.begin + i, tile.begin[r], tile.end[r]);
        const F32x16 e = select16(lanes, exp16(load16(at + i) - largest[r]), F32x16{});
        const F32x16 w = v_scales ? select16(lanes, e * load16(v_scales + block.begin + i), F32x16{}) : e;
        sum = sum + e;
        store16(at + i, w);
      }
    }
    sums[r] = sum;
  }
}

// o += w . v of a block. Zero weights change nothing where every value is finite; else a position is added only to the
// rows that attend to it: first what not all rows of the group see, row by row, so that each sum runs over t in order.
template <class Values>
void gather(const Tile& tile, const Block& block, WeightedSum sum) {
  const int groups = (tile.rows + kGroup - 1) / kGroup;
  for (int g = 0; g < groups; ++g) {
    const int first = tile.rows * g / groups, rows = tile.rows * (g + 1) / groups - first;
    WeightedSum group = sum;
    group.w += first * kBlock;
    group.o += first * sum.o_stride;
    const auto within = [&](int64_t t) { return t < block.begin ? block.begin : t < block.end ? t : block.end; };
    if (Values::kFinite) {
      add_values<Values>(group, rows, within(tile.begin[first]), within(tile.end[first + rows - 1]));
      continue;
    }
    const int64_t begin = within(tile.begin[first + rows - 1]), end = within(tile.end[first]);
    const auto row_by_row = [&](auto from, auto to) {
      for (int r = 0; r < rows; ++r) {
        WeightedSum one = group;
        one.w += r * kBlock;
        one.o += r * sum.o_stride;
        add_values<Values>(one, 1, from(r), to(r));
      }
    };
    const bool common = begin < end;
    row_by_row([&](int r) { return within(tile.begin[first + r]); },
               [&](int r) { return common ? begin : within(tile.end[first + r]); });
    if (!common) continue;
    add_values<Values>(group, rows, begin, end);
    row_by_row([&](int) { return end; }, [&](int r) { return within(tile.end[first + r]); });
  }
}

template <class Values>
struct AsFloat : F32Values {
  static constexpr bool kFinite = Values::kFinite, kFetched = false, kShifted = false;
};

// Several groups of rows share the conversion of V to f32.
template <class Values>
void convert(const Shape& s, const void* v, int64_t first, const Block& block, float* to) {
  for (int64_t t = block.begin; t < block.end; ++t)
    for (int64_t d = 0; d < s.padded(); d += 16, to += 16)
      store16(to, less_zero<Values>(Values::read(v, first + t * s.head_dim + d, s.head_dim - d), s.v_zero));
}

template <class Values, class Scores>
void attend(const Shape& s, const Command& command, const Call& call, const Tile& tile) {
  const Scratch at(s, call.scratch);
  float largest[kTile];
  F32x16 sums[kTile];
  prepare_queries(s, command, call, tile, at);
  score(tile, at, Scores(s, command, tile, at), s.cap, largest);
  for (int r = 0; r < tile.rows; ++r) sums[r] = F32x16{};
  for (int64_t i = 0; i < tile.rows * s.padded(); i += 16) store16(at.o + i, F32x16{});
  const float* v_scales = row<const float>(command, 6, 0);
  if (v_scales) v_scales += s.cache.scale(tile.kv_head, 0);
  const int64_t first = s.cache.at(tile.kv_head, 0);
  for_each_block(tile, at, [&](const Block& block) {
    weigh(tile, block, largest, v_scales, sums);
    const float* w = block.scores - block.begin;
    if (tile.rows <= 2 * kGroup || Values::kFloat)
      return gather<Values>(tile, block, {command.operand[5], first, s.head_dim, s.head_dim, w, kBlock, at.o, s.padded(), s.v_zero});
    convert<Values>(s, command.operand[5], first, block, at.v);
    gather<AsFloat<Values>>(tile, block, {at.v, -block.begin * s.padded(), s.padded(), s.padded(), w, kBlock, at.o, s.padded(), 0});
  });
  for (int r = 0; r < tile.rows; ++r) {
    const float inverse = 1.0f / reduce_add(sums[r]);
    float* y = row<float>(command, 7, tile.token(s, r)) + tile.column(s, r);
    const float* o = at.o + r * s.padded();
    for (int64_t i = 0; i < s.head_dim; i += 16) {
      F32x16 mean = load16(o + i) * inverse;
      if constexpr (Values::kShifted) mean = mean * s.v_scale;
      store_upto(y + i, mean, s.head_dim - i);
    }
  }
}

// Tiles of each KV head: as few as most_rows lets, but so many that all threads end together.
int64_t tiles_of(int64_t rows, int64_t most_rows, int64_t heads, int64_t threads) {
  const int64_t least = (rows + most_rows - 1) / most_rows;
  int64_t best = least, best_cost = INT64_MAX;
  for (int64_t tiles = least; tiles <= rows && tiles <= least + 2 * threads; ++tiles) {
    const int64_t turns = (heads * tiles + threads - 1) / threads;
    const int64_t cost = turns * ((rows + tiles - 1) / tiles + 2);  // a tile reads its K and V for about two rows' time
    if (cost < best_cost) best = tiles, best_cost = cost;
  }
  return best;
}

template <class Values, class Scores>
void attention(const Command& command, const Call& call) {
  const Shape s(command);
  const int64_t rows = call.rows * s.ratio;  // of one KV head
  const int64_t tiles = tiles_of(rows, s.most_rows(call.position + call.rows), s.cache.heads, call.threads);
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
void attention_int8(const Command& command, const Call& call) { attention<Int8Values, Int8Scores<false>>(command, call); }
void attention_int8_static(const Command& command, const Call& call) {
  attention<StaticValues, Int8Scores<true>>(command, call);
}

size_t attention_scratch(const Command& command, int64_t) { return Scratch::nbytes(Shape(command)); }

}  // namespace hearth::HEARTH_ISA
