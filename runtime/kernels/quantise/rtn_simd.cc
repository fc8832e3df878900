// The round-to-nearest search, a channel per lane: every sum runs in order in its lane, so all ISAs and hosts
// give the bits of compiler/quantize/rtn.py.
#include "quantise/rtn.h"

#include "arithmetic.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr float kStepFactors[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f, 0.7f, 0.65f};
constexpr float kScaleFactors[] = {1.0f,  0.8f, 0.85f, 0.9f, 0.95f, 1.05f,
                                   1.1f, 1.15f, 1.2f, 1.3f, 1.4f,  1.5f};
constexpr float kClipFactors[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f};
constexpr int kScales = sizeof kScaleFactors / sizeof *kScaleFactors, kRounds = 3;
constexpr float kSigns[] = {1.0f, -1.0f}, kOffsets[] = {-1.0f, 0.0f, 1.0f};
constexpr float kMaxMultiplier = 15.0f, kZero = 0x1p-100f, kInfinity = __builtin_inff();

F32x16 clamp(F32x16 x, float low, float high) { return min16(max16(x, splat(low)), splat(high)); }

// w[count][16] of up to 16 rows, missing rows and columns zero.
void transpose(const float* weights, int64_t rows, int64_t k, int64_t padded, float* w) {
  for (int64_t i = 0; i < padded * 16; ++i) w[i] = 0.0f;
  for (int64_t tile = 0; tile < k; tile += 16)
    for (int64_t n = 0; n < rows; ++n)
      for (int64_t i = tile; i < k && i < tile + 16; ++i) w[i * 16 + n] = weights[n * k + i];
}

// Squared error of w[count] rounded to multiples of `step`.
F32x16 error_of(const float* w, int64_t count, F32x16 step, float low, float high) {
  const F32x16 inverse = 1.0f / step;
  F32x16 error{};
  for (int64_t i = 0; i < count; ++i) {
    const F32x16 v = load16(w + i * 16);
    const F32x16 rest = v - rint16(clamp(v * inverse, low, high)) * step;
    error = error + rest * rest;
  }
  return error;
}

F32x16 energy_of(const float* w, int64_t count) {
  F32x16 energy{};
  for (int64_t i = 0; i < count; ++i) energy = energy + load16(w + i * 16) * load16(w + i * 16);
  return energy;
}

F32x16 peak_of(const float* w, int64_t count) {
  F32x16 peak{};
  for (int64_t i = 0; i < count; ++i) peak = max16(peak, abs16(load16(w + i * 16)));
  return peak;
}

F32x16 best_step(const float* w, int64_t group) {
  F32x16 peak{}, size{};
  for (int64_t i = 0; i < group; ++i) {
    const F32x16 v = load16(w + i * 16);
    peak = select16(abs16(v) > size, v, peak);
    size = max16(size, abs16(v));
  }
  const F32x16 full = select16(size < kZero, F32x16{}, peak) * -0.125f;
  F32x16 best = splat(kInfinity), chosen = full;
  for (float factor : kStepFactors)
    for (float sign : kSigns) {
      const F32x16 step = full * (factor * sign), error = error_of(w, group, step, -8.0f, 7.0f);
      chosen = select16(error < best, step, chosen);
      best = select16(error < best, error, best);
    }
  return chosen;
}

F32x16 nearest(F32x16 step, F32x16 scale) {
  return rint16(clamp(step / scale, -kMaxMultiplier, kMaxMultiplier));
}

F32x16 multiplier_error(const float* w, int64_t group, F32x16 multiplier, F32x16 scale, F32x16 energy) {
  const F32x16 error = error_of(w, group, multiplier * scale, -8.0f, 7.0f);
  return select16(multiplier == 0.0f, energy, error);
}

F32x16 codes_of(F32x16 w, F32x16 multiplier, F32x16 inverse) {
  return select16(multiplier == 0.0f, F32x16{}, rint16(clamp(w * inverse, -8.0f, 7.0f)));
}

struct Channels {  // 16 of them, transposed
  const float* w;  // [groups * group][16]
  float *steps, *energy, *kept;  // [groups][16]
  int64_t groups, group;
  const float* of(int64_t g) const { return w + g * group * 16; }
};

F32x16 best_scale(const Channels& c, F32x16 base) {
  F32x16 errors[kScales] = {};
  for (int64_t g = 0; g < c.groups; ++g) {
    const F32x16 step = load16(c.steps + g * 16), energy = load16(c.energy + g * 16);
    for (int s = 0; s < kScales; ++s) {
      const F32x16 scale = base * kScaleFactors[s];
      errors[s] = errors[s] + multiplier_error(c.of(g), c.group, nearest(step, scale), scale, energy);
    }
  }
  F32x16 best = splat(kInfinity), chosen = base;
  for (int s = 0; s < kScales; ++s) {
    chosen = select16(errors[s] < best, base * kScaleFactors[s], chosen);
    best = select16(errors[s] < best, errors[s], best);
  }
  return chosen;
}

// The best multiplier of one group under a scale, and its error.
F32x16 best_multiplier(const Channels& c, int64_t g, F32x16 scale, F32x16& least) {
  const F32x16 near = nearest(load16(c.steps + g * 16), scale), energy = load16(c.energy + g * 16);
  F32x16 chosen{};
  least = splat(kInfinity);
  for (float sign : kSigns)
    for (float offset : kOffsets) {
      const F32x16 multiplier = clamp(near * sign + offset, -kMaxMultiplier, kMaxMultiplier);
      const F32x16 error = multiplier_error(c.of(g), c.group, multiplier, scale, energy);
      chosen = select16(error < least, multiplier, chosen);
      least = select16(error < least, error, least);
    }
  return chosen;
}

// Alternates multipliers and least-squares scale; leaves the best multipliers in c.kept, returns their scale.
F32x16 refine(const Channels& c, F32x16 scale, float* trial) {
  F32x16 best = splat(kInfinity), kept_scale = scale;
  for (int64_t g = 0; g < c.groups; ++g) store16(c.kept + g * 16, F32x16{});
  for (int round = 0; round < kRounds; ++round) {
    F32x16 error{}, product{}, square{};
    for (int64_t g = 0; g < c.groups; ++g) {
      F32x16 least, group_product{}, group_square{};
      const F32x16 multiplier = best_multiplier(c, g, scale, least), inverse = 1.0f / (multiplier * scale);
      store16(trial + g * 16, multiplier);
      error = error + least;
      for (int64_t i = 0; i < c.group; ++i) {
        const F32x16 w = load16(c.of(g) + i * 16), value = codes_of(w, multiplier, inverse) * multiplier;
        group_product = group_product + w * value;
        group_square = group_square + value * value;
      }
      product = product + group_product;
      square = square + group_square;
    }
    const I32x16 better = error < best;
    for (int64_t g = 0; g < c.groups; ++g)
      store16(c.kept + g * 16, select16(better, load16(trial + g * 16), load16(c.kept + g * 16)));
    kept_scale = select16(better, scale, kept_scale);
    best = select16(better, error, best);
    scale = select16(product > 0.0f, product / square, scale);
  }
  return kept_scale;
}

}  // namespace

void rtn_int4(const RtnInt4& task, int64_t first, float* scratch) {
  const int64_t rows = task.rows - first < 16 ? task.rows - first : 16;
  const int64_t groups = (task.k + task.group - 1) / task.group, padded = groups * task.group;
  float* w = scratch;
  float *steps = w + padded * 16, *energy = steps + groups * 16, *kept = energy + groups * 16;
  float* trial = kept + groups * 16;
  transpose(task.weights + first * task.k, rows, task.k, padded, w);
  const Channels c{w, steps, energy, kept, groups, task.group};
  F32x16 peak{};
  for (int64_t g = 0; g < groups; ++g) {
    const F32x16 step = best_step(c.of(g), task.group);
    peak = max16(peak, abs16(step));
    store16(steps + g * 16, step);
    store16(energy + g * 16, energy_of(c.of(g), task.group));
  }
  const I32x16 zero = peak_of(w, padded) < kZero;
  const F32x16 base = select16(zero, splat(1.0f), peak / kMaxMultiplier);
  F32x16 scale = refine(c, best_scale(c, base), trial);
  for (int64_t g = 0; g < groups; ++g) {
    const F32x16 multiplier = select16(zero, F32x16{}, load16(kept + g * 16)), inverse = 1.0f / (multiplier * scale);
    for (int64_t n = 0; n < rows; ++n)
      task.multipliers[(first + n) * groups + g] = static_cast<int8_t>(multiplier[n]);
    for (int64_t i = g * task.group; i < task.k && i < (g + 1) * task.group; ++i) {
      const F32x16 code = codes_of(load16(w + i * 16), multiplier, inverse);
      for (int64_t n = 0; n < rows; ++n) task.codes[(first + n) * task.k + i] = static_cast<int8_t>(code[n]);
    }
  }
  scale = select16(zero, F32x16{}, scale);
  for (int64_t n = 0; n < rows; ++n) task.scale[first + n] = scale[n];
}

void rtn_int8(const RtnInt8& task, int64_t first, float* scratch) {
  const int64_t rows = task.rows - first < 16 ? task.rows - first : 16, k = task.k;
  transpose(task.weights + first * k, rows, k, k, scratch);
  const F32x16 peak = peak_of(scratch, k);
  const I32x16 zero = peak < kZero;
  const F32x16 base = select16(zero, splat(1.0f), peak / 127.0f);
  F32x16 best = splat(kInfinity), scale = base;
  for (float factor : kClipFactors) {
    const F32x16 trial = base * factor, error = error_of(scratch, k, trial, -127.0f, 127.0f);
    scale = select16(error < best, trial, scale);
    best = select16(error < best, error, best);
  }
  const F32x16 inverse = 1.0f / scale;
  for (int64_t i = 0; i < k; ++i) {
    const F32x16 code = rint16(clamp(load16(scratch + i * 16) * inverse, -127.0f, 127.0f));
    for (int64_t n = 0; n < rows; ++n)
      task.codes[(first + n) * k + i] = zero[n] ? 0 : static_cast<int8_t>(code[n]);
  }
  for (int64_t n = 0; n < rows; ++n) task.scale[first + n] = zero[n] ? 0.0f : scale[n];
}

}  // namespace hearth::HEARTH_ISA
