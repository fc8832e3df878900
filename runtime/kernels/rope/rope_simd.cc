// y[M, H * D] = rope(x) at the rows' positions; a head of a row is the unit of work.
#include "attributes.h"
#include "rope/rotate.h"

namespace hearth::HEARTH_ISA {

void rope(const Command& command, const Call& call) {
  const auto [heads, d, rotary_dim] = ints_of<RopeInts>(command);
  const Tables tables{row<const float>(command, 1, 0), row<const float>(command, 2, 0), rotary_dim / 2};
  const Share share(call.rows * heads, call);
  for (int64_t unit = share.begin; unit < share.end; ++unit) {
    const int64_t m = unit / heads, at = unit % heads * d, t = call.position + m;
    rotate(row<const float>(command, 0, m) + at, tables.c(t), tables.s(t), tables.half, d,
           row<float>(command, 3, m) + at);
  }
}

}  // namespace hearth::HEARTH_ISA
