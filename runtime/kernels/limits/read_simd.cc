// Reads as fast as memory gives: one stream in order, the widest loads, sums that do not wait for each other.
//
// The loads are volatile, which keeps their order: lines asked for out of order escape the processor's prefetcher
// (Zen 4 read at 11 instead of 32 GB/s when the compiler had shuffled sixteen of them).
#include "lanes.h"
#include "limits/limits.h"

namespace hearth::HEARTH_ISA {

uint64_t read_all(const std::byte* p, int64_t nbytes) {
  constexpr int kSums = 8, kWidth = int(sizeof(Ints));
  Ints sums[kSums] = {};
  for (int64_t at = 0; at < nbytes; at += kReadStep)
#pragma GCC unroll 64
    for (int i = 0; i < int(kReadStep) / kWidth; ++i)
      sums[i % kSums] ^= *reinterpret_cast<const volatile Ints*>(p + at + i * kWidth);
  Ints all{};
#pragma GCC unroll 8
  for (const Ints& sum : sums) all ^= sum;
  return uint64_t(uint32_t(all[0] ^ all[1] ^ all[2] ^ all[3]));
}

}  // namespace hearth::HEARTH_ISA
