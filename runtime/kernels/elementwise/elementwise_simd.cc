// y = f(x) and y = f(a, b) per element of f32[M, N]; and the copy of the last R of T rows.
#include "arithmetic.h"
#include "attributes.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr int64_t kBlock = 1024;  // columns of one unit of work

// operand[inputs] = f(operand[0], ..) with one or two inputs.
template <int inputs, class F>
void map(const Command& command, const Call& call, F f) {
  const int64_t n = command.ints[0], blocks = (n + kBlock - 1) / kBlock;
  const Share share(call.rows * blocks, call);
  for (int64_t unit = share.begin; unit < share.end; ++unit) {
    const int64_t m = unit / blocks, first = unit % blocks * kBlock;
    const int64_t last = first + kBlock < n ? first + kBlock : n;
    const float *a = row<const float>(command, 0, m), *b = row<const float>(command, inputs - 1, m);
    float* y = row<float>(command, inputs, m);
    int64_t i = first;
    for (; i + 16 <= last; i += 16) store16(y + i, f(load16(a + i), load16(b + i)));
    if (i < last) store_some(y + i, f(load_some(a + i, last - i), load_some(b + i, last - i)), last - i);
  }
}

}  // namespace

void add(const Command& command, const Call& call) {
  map<2>(command, call, [](F32x16 a, F32x16 b) { return a + b; });
}

void mul(const Command& command, const Call& call) {
  map<2>(command, call, [](F32x16 a, F32x16 b) { return a * b; });
}

// The choice is made once per command: one loop for each function.
void activate(const Command& command, const Call& call) {
  const auto with = [&]<int kFunction>() {
    map<1>(command, call, [](F32x16 x, F32x16) { return activate16(x, kFunction); });
  };
  switch (ints_of<ActivateInts>(command).activation) {
    case kSilu: return with.operator()<kSilu>();
    case kGelu: return with.operator()<kGelu>();
    case kGeluTanh: return with.operator()<kGeluTanh>();
    case kRelu: return with.operator()<kRelu>();
    case kTanh: return with.operator()<kTanh>();
    default: return with.operator()<kSigmoid>();
  }
}

void swiglu(const Command& command, const Call& call) {
  map<2>(command, call, [](F32x16 gate, F32x16 up) { return silu16(gate) * up; });
}

void geglu_tanh(const Command& command, const Call& call) {
  map<2>(command, call, [](F32x16 gate, F32x16 up) { return gelu_tanh16(gate) * up; });
}

void scale(const Command& command, const Call& call) {
  const float factor = command.floats[0];
  map<1>(command, call, [&](F32x16 x, F32x16) { return x * factor; });
}

void soft_cap(const Command& command, const Call& call) {
  const float cap = command.floats[0];
  map<1>(command, call, [&](F32x16 x, F32x16) { return soft_cap16(x, cap); });
}

void last_rows(const Command& command, const Call& call) {
  const int64_t first = call.tokens - call.rows;
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m)
    __builtin_memmove(row<char>(command, 1, m), row<const char>(command, 0, first + m), command.ints[0] * 4);
}

}  // namespace hearth::HEARTH_ISA
