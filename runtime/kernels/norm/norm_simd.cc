// rms_norm, quantize, and both in one: a row of x[M, K] is the unit of work.
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

// One record of quantised activations (docs/layouts.md), its padding zero.
template <class F>
void write_record(char* record, int64_t n, F value) {
  const Q8Row layout(n);
  const float most = max_abs(n, value), inverse = inverse_scale(most);
  int8_t* codes = reinterpret_cast<int8_t*>(record);
  int32_t* sums = reinterpret_cast<int32_t*>(record + layout.sums());
  for (int64_t i = 0; i < layout.columns; i += 32) {
    I32x16 sum{};
    for (int64_t j = i; j < i + 32; j += 16) {
      const I8x16 c = j < n ? codes16(value(j), inverse) : I8x16{};
      __builtin_memcpy(codes + j, &c, 16);
      sum = sum + widen(c);
    }
    sums[i / 32] = reduce_add_int(sum);
  }
  __builtin_memset(record + layout.scale(), 0, layout.stride() - layout.scale());
  const float scale = scale_of(most);
  __builtin_memcpy(record + layout.scale(), &scale, 4);
}

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

void rms_norm_quantize(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m) {
    const float* x = row<const float>(command, 0, m);
    const Normalised value{x, row<const float>(command, 1, 0), n, reciprocal_rms(x, n, command.floats[0])};
    write_record(row<char>(command, 2, m), n, value);
  }
}

void quantize(const Command& command, const Call& call) {
  const int64_t n = command.ints[0];
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m)
    write_record(row<char>(command, 1, m), n, Plain{row<const float>(command, 0, m), n});
}

}  // namespace hearth::HEARTH_ISA
