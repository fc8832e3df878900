// layer_norm, alone or with quantize, and l2_normalize: a row of x[M, K] is the unit of work.
#include "quantize.h"

namespace hearth::HEARTH_ISA {
namespace {

float mean_of(const float* x, int64_t n) {
  F32x16 sum{};
  for (int64_t i = 0; i < n; i += 16) sum = sum + load_upto(x + i, n - i);
  return reduce_add(sum) / float(n);
}

// x[i ..] - mean, +0 beyond n: the sums and records below take whole vectors.
inline F32x16 centred(const float* x, int64_t i, int64_t n, float mean) {
  const F32x16 y = load_upto(x + i, n - i) - mean;
  if (n - i >= 16) return y;
  float kept[16] = {};
  store_some(kept, y, n - i);
  return load16(kept);
}

struct Normalised {
  const float *x, *gain, *bias;  // gain and bias may be null
  int64_t n;
  float mean, r;

  Normalised(const Command& command, int64_t m)
      : x(row<const float>(command, 0, m)), gain(row<const float>(command, 1, 0)),
        bias(row<const float>(command, 2, 0)), n(command.ints[0]), mean(mean_of(x, n)) {
    F32x16 sum{};
    for (int64_t i = 0; i < n; i += 16) {
      const F32x16 c = centred(x, i, n, mean);
      sum = sum + c * c;
    }
    r = 1.0f / __builtin_sqrtf(reduce_add(sum) / float(n) + command.floats[0]);
  }

  F32x16 operator()(int64_t i) const {
    F32x16 y = centred(x, i, n, mean) * r;
    if (gain) y = y * load_upto(gain + i, n - i);
    return bias ? y + load_upto(bias + i, n - i) : y;
  }
};

}  // namespace

void layer_norm(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m) {
    const Normalised value(command, m);
    float* y = row<float>(command, 3, m);
    for (int64_t i = 0; i < n; i += 16) store_upto(y + i, value(i), n - i);
  }
}

void layer_norm_quantize(const Command& command, const Call& call) {
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m)
    write_record(row<char>(command, 3, m), command.ints[0], Normalised(command, m));
}

void layer_norm_quantize_static(const Command& command, const Call& call) {
  const Fixed fixed(command.floats + 1);
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m)
    write_record(row<char>(command, 3, m), command.ints[0], Normalised(command, m), fixed);
}

void l2_normalize(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const float least = command.floats[0];
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m) {
    const float* x = row<const float>(command, 0, m);
    F32x16 sum{};
    for (int64_t i = 0; i < n; i += 16) {
      const F32x16 v = load_upto(x + i, n - i);
      sum = sum + v * v;
    }
    const float length = __builtin_sqrtf(reduce_add(sum)), divisor = length < least ? least : length;
    float* y = row<float>(command, 1, m);
    for (int64_t i = 0; i < n; i += 16) store_upto(y + i, load_upto(x + i, n - i) / divisor, n - i);
  }
}

}  // namespace hearth::HEARTH_ISA
