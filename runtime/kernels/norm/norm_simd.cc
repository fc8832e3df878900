// rms_norm, quantize, and both in one: a row of x[M, K] is the unit of work, of head_norm a head of a row.
#include "attributes.h"
#include "quantize.h"

namespace hearth::HEARTH_ISA {
namespace {

// 1 / sqrt(sum16(x * x) / n + eps)
float reciprocal_rms(const float* x, int64_t n, float eps) {
  F32x16 sum{};
  for (int64_t i = 0; i < n; i += 16) {
    const F32x16 v = load_upto(x + i, n - i);
    sum = sum + v * v;
  }
  return 1.0f / __builtin_sqrtf(reduce_add(sum) / float(n) + eps);
}

struct Normalised {
  const float *x, *gain;  // gain may be null
  int64_t n;
  float r;
  F32x16 operator()(int64_t i) const {
    const F32x16 y = load_upto(x + i, n - i) * r;
    return gain ? y * load_upto(gain + i, n - i) : y;
  }
};

struct Plain {
  const float* x;
  int64_t n;
  F32x16 operator()(int64_t i) const { return load_upto(x + i, n - i); }
};

}  // namespace

void rms_norm(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m) {
    const float* x = row<const float>(command, 0, m);
    const Normalised value{x, row<const float>(command, 1, 0), n, reciprocal_rms(x, n, command.floats[0])};
    float* y = row<float>(command, 2, m);
    for (int64_t i = 0; i < n; i += 16) store_upto(y + i, value(i), n - i);
  }
}

void head_norm(const Command& command, const Call& call) {
  const auto [heads, n] = ints_of<HeadNormInts>(command);
  const float* gain = row<const float>(command, 1, 0);
  const Share share(call.rows * heads, call);
  for (int64_t unit = share.begin; unit < share.end; ++unit) {
    const int64_t m = unit / heads, first = unit % heads * n;
    const float* x = row<const float>(command, 0, m) + first;
    const Normalised value{x, gain, n, reciprocal_rms(x, n, command.floats[0])};
    float* y = row<float>(command, 2, m) + first;
    for (int64_t i = 0; i < n; i += 16) store_upto(y + i, value(i), n - i);
  }
}

void rms_norm_quantize(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m) {
    const float* x = row<const float>(command, 0, m);
    const Normalised value{x, row<const float>(command, 1, 0), n, reciprocal_rms(x, n, command.floats[0])};
    write_record(row<char>(command, 2, m), n, value);
  }
}

void rms_norm_quantize_static(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const Fixed fixed(command.floats + 1);
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m) {
    const float* x = row<const float>(command, 0, m);
    const Normalised value{x, row<const float>(command, 1, 0), n, reciprocal_rms(x, n, command.floats[0])};
    write_record(row<char>(command, 2, m), n, value, fixed);
  }
}

void quantize(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m)
    write_record(row<char>(command, 1, m), n, Plain{row<const float>(command, 0, m), n});
}

void quantize_static(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const Fixed fixed(command.floats);
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m)
    write_record(row<char>(command, 1, m), n, Plain{row<const float>(command, 0, m), n}, fixed);
}

}  // namespace hearth::HEARTH_ISA
