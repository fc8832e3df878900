// Sizes of pieces, and lines asked for ahead.
#include "executor/stream.h"

#include <algorithm>

#include "contracts.h"

namespace hearth {
namespace {

// A last piece takes some microseconds to read, so that is what threads end apart by.
constexpr int64_t kPieceNbytes = 64 << 10;
constexpr int kMostPieces = 8;
// A part of every L2 that the integer kernels meet.
constexpr int64_t kPrefetchNbytes = 256 << 10, kLinesAtOnce = 8;

}  // namespace

Stream Stream::of(const Command& command) {
  if (command.opcode != kLinear) return {};
  const PackedUnits units = packed_units(command);
  return {static_cast<const std::byte*>(command.operand[1]) + units.begin, units.count, units.nbytes};
}

int Stream::pieces(int threads) const {
  int count = 1;
  for (int64_t left = units * unit_nbytes / threads / 2; left >= kPieceNbytes && count < kMostPieces; left /= 2) ++count;
  return count;
}

void Prefetch::aim(const Stream& next) {
  if (aim_ == &next) return;
  aim_ = &next;
  const int64_t begin = next.units * thread_ / threads_, end = next.units * (thread_ + 1) / threads_;
  at_ = next.weights + begin * next.unit_nbytes;
  end_ = at_ + std::min((end - begin) * next.unit_nbytes, kPrefetchNbytes);
}

bool Prefetch::operator()() {
  for (int i = 0; i < kLinesAtOnce && at_ < end_; ++i, at_ += 64) __builtin_prefetch(at_, 0, 2);
  return at_ < end_;
}

}  // namespace hearth
