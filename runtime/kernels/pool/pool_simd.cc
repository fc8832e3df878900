// The T rows of x as one row y[1, N]; threads share the columns, and each column goes over the rows in order.
#include "arithmetic.h"
#include "attributes.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr int64_t kVectors = 4, kBlock = kVectors * 16;  // columns taken down the rows together

struct Add {
  static F32x16 join(F32x16 all, F32x16 x) { return all + x; }
};
struct Larger {  // a NaN is the largest
  static F32x16 join(F32x16 all, F32x16 x) { return select16((x > all) | (x != x), x, all); }
};

// y[first ..] of kWidth vectors: join over rows [from, T), starting at all; then divided.
template <class Join, int kWidth>
void columns(const Command& command, const Call& call, int64_t first, bool mean) {
  const int64_t n = command.ints[0] - first;
  F32x16 all[kWidth]{};
  if (!mean)
    for (int c = 0; c < kWidth; ++c) all[c] = load_upto(row<const float>(command, 0, 0) + first + 16 * c, n - 16 * c);
  for (int64_t t = mean ? 0 : 1; t < call.tokens; ++t) {
    const float* x = row<const float>(command, 0, t) + first;
#pragma GCC unroll 4
    for (int c = 0; c < kWidth; ++c) all[c] = Join::join(all[c], load_upto(x + 16 * c, n - 16 * c));
  }
  float* y = row<float>(command, 1, 0) + first;
  const float divisor = mean ? float(call.tokens) : 1.0f;
  for (int c = 0; c < kWidth; ++c) store_upto(y + 16 * c, all[c] / divisor, n - 16 * c);
}

template <class Join>
void reduce_rows(const Command& command, const Call& call, bool mean) {
  const int64_t n = command.ints[0];
  const Share share((n + kBlock - 1) / kBlock, call);
  for (int64_t block = share.begin; block < share.end; ++block) {
    const int64_t end = (block + 1) * kBlock;
    int64_t first = block * kBlock;
    if (end <= n) columns<Join, kVectors>(command, call, first, mean);
    else
      for (; first < n; first += 16) columns<Join, 1>(command, call, first, mean);
  }
}

void copy_row(const Command& command, const Call& call, int64_t t) {
  const Share share(command.ints[0], call);
  __builtin_memmove(row<float>(command, 1, 0) + share.begin, row<const float>(command, 0, t) + share.begin,
                    (share.end - share.begin) * 4);
}

}  // namespace

void pool(const Command& command, const Call& call) {
  if (call.rows == 0 || call.tokens == 0) return;
  switch (ints_of<PoolInts>(command).kind) {
    case kPoolMean: return reduce_rows<Add>(command, call, true);
    case kPoolMax: return reduce_rows<Larger>(command, call, false);
    case kPoolFirst: return copy_row(command, call, 0);
    default: return copy_row(command, call, call.tokens - 1);
  }
}

}  // namespace hearth::HEARTH_ISA
