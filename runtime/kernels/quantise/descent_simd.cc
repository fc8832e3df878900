// Codes and multipliers of one block of columns after the other under the whole Hessian, a channel per lane;
// compiler/quantize/lwc.py defines every step.
#include "quantise/levels.h"
#include "quantise/products.h"

namespace hearth::HEARTH_ISA {
namespace {

struct Tile {
  const Descent& task;
  int64_t first, rows;
  float *weights, *wanted, *held, *levels;  // [kTile][stride]: w, w H, e H, e
  float* moved;                             // [kTile][block]: what was added to e
  float* lanes;                             // [6][block][16]
  float scale[kTile], twice[kTile];
  int32_t multipliers[kTile];  // of the block at hand
};

struct Block {
  int64_t index, begin, count;
  const float *inverse, *factor, *pivots;
};

Block block_of(const Descent& task, int64_t index) {
  const int64_t b = task.block, begin = index * b, left = task.k - begin;
  return {index, begin, left < b ? left : b, task.inverse + index * b * b, task.factor + index * b * b,
          task.pivots + index * b};
}

// Levels of 16 channels, each under its own multiplier (`base`: where its cells begin).
F32x16 lane_levels(const int8_t* values, const int32_t* base, F32x16 x, F32x16 twice) {
  const F32x16 cell = min16(max16(x * twice + 256.0f, splat(0.0f)), splat(511.0f));
  int32_t at[16];
  store16(reinterpret_cast<float*>(at), bits_to_float(to_int(cell) + load16_int(base)));
  const I8x16 found = {values[at[0]],  values[at[1]],  values[at[2]],  values[at[3]], values[at[4]],  values[at[5]],
                       values[at[6]],  values[at[7]],  values[at[8]],  values[at[9]], values[at[10]], values[at[11]],
                       values[at[12]], values[at[13]], values[at[14]], values[at[15]]};
  return to_float(widen(found));
}

// What the error of column i adds to the later ones.
void feed(const Block& block, int64_t stride, int64_t i, F32x16 error, float* v) {
  for (int64_t j = i + 1; j < block.count; ++j)
    store16(v + j * 16, load16(v + j * 16) + error * block.factor[i * stride + j]);
}

int limited(const Grid& grid, int m) { return m < grid.lowest ? grid.lowest : m > grid.highest ? grid.highest : m; }

int rounded(float x) { return static_cast<int>((x + kRounding) - kRounding); }

// The best of the trials for 16 channels of a block; their changes go to tile.moved and tile.levels.
void fit(Tile& tile, const Block& block, int64_t lane) {
  const Descent& task = tile.task;
  const int64_t stride = task.stride, b = task.block, count = block.count;
  float *gradient = tile.lanes, *target = gradient + b * 16, *weight = target + b * 16, *v = weight + b * 16;
  float *trial = v + b * 16, *best = trial + b * 16;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t r = 0; r < 16; ++r) {
      const int64_t at = (lane + r) * stride + block.begin + i;
      gradient[i * 16 + r] = tile.wanted[at] - tile.scale[lane + r] * tile.held[at];
      best[i * 16 + r] = tile.levels[at];
      weight[i * 16 + r] = tile.weights[at];
    }
  const F32x16 scale = load16(tile.scale + lane), twice = load16(tile.twice + lane);
  F32x16 least{};
  for (int64_t i = 0; i < count; ++i) {
    F32x16 x{};
    for (int64_t j = 0; j < count; ++j) x = x + load16(gradient + j * 16) * block.inverse[j * b + i];
    store16(v + i * 16, x);
    store16(target + i * 16, load16(best + i * 16) * scale + x);
  }
  for (int64_t i = 0; i < count; ++i) {
    const F32x16 y = load16(v + i * 16);
    least = least + y * y * block.pivots[i];
    feed(block, b, i, load16(target + i * 16) - load16(best + i * 16) * scale, v);
  }
  int32_t chosen[16], tried[16], base[16];
  for (int r = 0; r < 16; ++r) chosen[r] = tile.multipliers[lane + r];
  for (int64_t t = 0; t < task.trials; ++t) {
    for (int r = 0; r < 16; ++r) {
      tried[r] = limited(task.grid, rounded(static_cast<float>(tile.multipliers[lane + r]) * task.factors[t]) + task.offsets[t]);
      base[r] = (tried[r] - task.grid.lowest) * static_cast<int32_t>(kCells);
    }
    for (int64_t i = 0; i < count * 16; ++i) v[i] = target[i];
    F32x16 error{};
    for (int64_t i = 0; i < count; ++i) {
      const F32x16 wanted = load16(v + i * 16);
      const F32x16 level = lane_levels(task.grid.values, base, task.fed ? wanted : load16(weight + i * 16), twice);
      const F32x16 y = wanted - level * scale;
      store16(trial + i * 16, level);
      error = error + y * y * block.pivots[i];
      feed(block, b, i, load16(target + i * 16) - level * scale, v);
    }
    const I32x16 better = error < least;
    least = select16(better, error, least);
    for (int64_t i = 0; i < count; ++i)
      store16(best + i * 16, select16(better, load16(trial + i * 16), load16(best + i * 16)));
    int32_t mask[16];
    store16(reinterpret_cast<float*>(mask), bits_to_float(better));
    for (int r = 0; r < 16; ++r)
      if (mask[r]) chosen[r] = tried[r];
  }
  for (int64_t r = 0; r < 16; ++r) tile.multipliers[lane + r] = chosen[r];
  for (int64_t i = 0; i < count; ++i)
    for (int64_t r = 0; r < 16; ++r) {
      float& level = tile.levels[(lane + r) * stride + block.begin + i];
      tile.moved[(lane + r) * b + i] = best[i * 16 + r] - level;
      level = best[i * 16 + r];
    }
}

void sweep(Tile& tile) {
  const Descent& task = tile.task;
  for (int64_t index = 0; index < task.blocks(); ++index) {
    const Block block = block_of(task, index);
    const int64_t group = block.begin / task.group, groups = task.groups();
    for (int64_t r = 0; r < kTile; ++r)
      tile.multipliers[r] = r < tile.rows ? task.multipliers[(tile.first + r) * groups + group] : task.grid.highest;
    for (int64_t lane = 0; lane < tile.rows; lane += 16) fit(tile, block, lane);
    for (int64_t r = 0; r < tile.rows; ++r)
      task.multipliers[(tile.first + r) * groups + group] = static_cast<int8_t>(tile.multipliers[r]);
    add_product(align_up(tile.rows, kProductRows), tile.moved, task.block, block.count,
                task.hessian + block.begin * task.stride, task.stride, tile.held, task.stride, task.stride);
  }
}

// The scale with the least error of the layer's outputs: (e . w H) / (e . e H).
void rescale(Tile& tile) {
  const int64_t stride = tile.task.stride;
  for (int64_t r = 0; r < tile.rows; ++r) {
    F32x16 products{}, squares{};
    for (int64_t i = 0; i < stride; i += 16) {
      const F32x16 e = load16(tile.levels + r * stride + i);
      products = products + e * load16(tile.wanted + r * stride + i);
      squares = squares + e * load16(tile.held + r * stride + i);
    }
    const float product = reduce_add(products), square = reduce_add(squares);
    if (!(product > 0.0f && square > 0.0f)) continue;
    tile.scale[r] = tile.task.grid.bf16 ? to_bf16(product / square) : product / square;
    tile.twice[r] = half_steps(tile.scale[r]);
  }
}

void multiply(const Tile& tile, const float* a, float* c) {
  const int64_t stride = tile.task.stride;
  for (int64_t begin = 0; begin < tile.task.k; begin += kBlock) {
    const int64_t depth = tile.task.k - begin < kBlock ? tile.task.k - begin : kBlock;
    add_product(align_up(tile.rows, kProductRows), a + begin, stride, depth, tile.task.hessian + begin * stride, stride, c,
                stride, stride);
  }
}

}  // namespace

void descent_rows(const Descent& task, int64_t first, float* scratch) {
  const int64_t rows = task.rows - first < kTile ? task.rows - first : kTile, plane = kTile * task.stride;
  Tile tile{task, first, rows, scratch, scratch + plane, scratch + 2 * plane, scratch + 3 * plane, scratch + 4 * plane,
            scratch + 4 * plane + kTile * task.block, {}, {}, {}};
  for (int64_t i = 0; i < 4 * plane + kTile * task.block; ++i) scratch[i] = 0.0f;
  for (int64_t r = 0; r < rows; ++r) {
    tile.scale[r] = task.scale[first + r];
    tile.twice[r] = half_steps(tile.scale[r]);
    for (int64_t i = 0; i < task.k; ++i) {
      tile.weights[r * task.stride + i] = task.weights[(first + r) * task.k + i];
      tile.levels[r * task.stride + i] = static_cast<float>(task.levels[(first + r) * task.k + i]);
    }
  }
  multiply(tile, tile.weights, tile.wanted);
  multiply(tile, tile.levels, tile.held);
  rescale(tile);
  for (int64_t i = 0; i < task.sweeps; ++i) {
    sweep(tile);
    rescale(tile);
  }
  for (int64_t r = 0; r < rows; ++r) {
    task.scale[first + r] = tile.scale[r];
    for (int64_t i = 0; i < task.k; ++i)
      task.levels[(first + r) * task.k + i] = static_cast<int8_t>(tile.levels[r * task.stride + i]);
  }
}

}  // namespace hearth::HEARTH_ISA
