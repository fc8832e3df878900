// The scale and the multipliers of one channel by weighted least squares; compiler/quantize/search.py defines every step.
#include "quantise/levels.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr int kRounds = 3, kMoves[] = {0, -1, 1, -2, 2};
constexpr float kInfinity = __builtin_inff();

struct Row {
  const Search& task;
  const float* w;  // [groups][wide], padding zero
  float* peaks;    // [groups]
  int64_t vectors;
  const float* of(int64_t g) const { return w + g * task.wide(); }
  const float* importance(int64_t g) const { return task.importance + g * task.wide(); }
};

struct Choice {  // of every group
  int32_t* multipliers;
  float scale, error;
};

float error_of(const Row& row, int64_t g, int multiplier, float scale, float twice) {
  const float* h = row.importance(g);
  F32x16 sum{};
  over_levels(row.task.grid.of(multiplier), row.of(g), row.vectors, twice, [&](int64_t v, F32x16 w, F32x16 e) {
    const F32x16 rest = w - e * scale;
    sum = sum + rest * rest * load16(h + v * 16);
  });
  return reduce_add(sum);
}

int limited(const Grid& grid, int m) { return m < grid.lowest ? grid.lowest : m > grid.highest ? grid.highest : m; }

// The best of several multipliers of a group; the first of equals.
struct Least {
  const Row& row;
  int64_t g;
  float scale, twice, error = kInfinity;
  int chosen = 0;
  bool any = false;
  void add(int multiplier) {
    const int m = limited(row.task.grid, multiplier);
    if (any && m == chosen) return;  // no less than itself
    const float found = error_of(row, g, m, scale, twice);
    if (!any || found < error) chosen = m;
    if (found < error) error = found;
    any = true;
  }
};

float stored(const Search& task, float scale) { return task.grid.bf16 ? to_bf16(scale) : scale; }

int rounded(float x) {
  const float clipped = x < -128.0f ? -128.0f : x > 128.0f ? 128.0f : x;
  return static_cast<int>((clipped + kRounding) - kRounding);
}

void first(const Row& row, Choice& out) {
  const Search& task = row.task;
  const float twice = half_steps(out.scale), unit = out.scale * task.grid.reach;
  out.error = 0.0f;
  for (int64_t g = 0; g < task.groups(); ++g) {
    const float full = row.peaks[g] / unit;
    Least least{row, g, out.scale, twice};
    for (int64_t c = 0; c < task.clip_count; ++c) {
      const int size = static_cast<int>(full * task.clips[c] + 0.5f);
      least.add(size);
      if (task.grid.grouped()) least.add(-size);
    }
    out.multipliers[g] = least.chosen;
    out.error = g == 0 ? least.error : out.error + least.error;
  }
}

// Around the steps of another choice, under out.scale.
void near(const Row& row, const int32_t* multipliers, float scale, int moves, bool mirrored, Choice& out) {
  const Search& task = row.task;
  const float twice = half_steps(out.scale);
  for (int64_t g = 0; g < task.groups(); ++g) {
    const int at = rounded(static_cast<float>(multipliers[g]) * scale / out.scale);
    Least least{row, g, out.scale, twice};
    for (int sign = 1; sign >= (mirrored && task.grid.grouped() ? -1 : 1); sign -= 2)
      for (int i = 0; i < moves; ++i) least.add(at * sign + kMoves[i]);
    out.multipliers[g] = least.chosen;
    out.error = g == 0 ? least.error : out.error + least.error;
  }
}

float least_squares(const Row& row, const Choice& of) {
  const float twice = half_steps(of.scale);
  float product = 0.0f, square = 0.0f;
  for (int64_t g = 0; g < row.task.groups(); ++g) {
    const float* h = row.importance(g);
    F32x16 products{}, squares{};
    over_levels(row.task.grid.of(of.multipliers[g]), row.of(g), row.vectors, twice, [&](int64_t v, F32x16 w, F32x16 e) {
      const F32x16 weight = load16(h + v * 16);
      products = products + w * e * weight;
      squares = squares + e * e * weight;
    });
    product = g == 0 ? reduce_add(products) : product + reduce_add(products);
    square = g == 0 ? reduce_add(squares) : square + reduce_add(squares);
  }
  return product > 0.0f && square > 0.0f ? product / square : of.scale;
}

bool keep_better(Choice& best, Choice& trial) {
  if (!(trial.error < best.error)) return false;
  const Choice old = best;
  best = trial;
  trial = old;
  return true;
}

}  // namespace

void search_row(const Search& task, int64_t n, float* scratch) {
  const int64_t groups = task.groups(), wide = task.wide();
  float *w = scratch, *peaks = w + groups * wide;
  int32_t* multipliers = reinterpret_cast<int32_t*>(peaks + groups);
  for (int64_t i = 0; i < groups * wide; ++i) w[i] = 0.0f;
  float peak = 0.0f;
  for (int64_t g = 0; g < groups; ++g) {
    peaks[g] = 0.0f;
    for (int64_t i = 0; i < task.group && g * task.group + i < task.k; ++i) {
      const float x = task.weights[n * task.k + g * task.group + i], size = x < 0.0f ? -x : x;
      w[g * wide + i] = x;
      if (size > peaks[g]) peaks[g] = size;
    }
    if (peaks[g] > peak) peak = peaks[g];
  }
  const Row row{task, w, peaks, wide / 16};
  const float base = peak > 0.0f ? peak / task.grid.widest : 1.0f;
  Choice best{multipliers, stored(task, base), 0.0f}, trial{multipliers + groups, 0.0f, 0.0f};
  first(row, best);
  int32_t* start = multipliers + 2 * groups;
  const float start_scale = best.scale;
  for (int64_t g = 0; g < groups; ++g) start[g] = best.multipliers[g];
  for (int64_t i = 1; i < task.factor_count; ++i) {
    trial.scale = stored(task, base * task.factors[i]);
    near(row, start, start_scale, 3, false, trial);
    keep_better(best, trial);
  }
  for (int round = 0; round < kRounds; ++round) {
    trial.scale = stored(task, least_squares(row, best));
    near(row, best.multipliers, best.scale, 5, true, trial);
    if (!keep_better(best, trial)) break;  // the next round would be the same
  }
  for (int64_t g = 0; g < groups; ++g)
    task.multipliers[n * groups + g] = static_cast<int8_t>(peak > 0.0f ? best.multipliers[g] : task.grid.grouped() ? 0 : 1);
  task.scale[n] = peak > 0.0f ? best.scale : 0.0f;
}

void nearest_row(const Coded& task, int64_t n, float*) {
  const float twice = half_steps(task.scale[n]);
  for (int64_t g = 0; g < task.groups(); ++g) {
    const int8_t* values = task.grid.of(task.multipliers[n * task.groups() + g]);
    for (int64_t i = g * task.group; i < task.k && i < (g + 1) * task.group; ++i)
      task.levels[n * task.k + i] = values[cell(task.weights[n * task.k + i], twice)];
  }
}

}  // namespace hearth::HEARTH_ISA
