// int8 products at most on AMX: tdpbssd on four tiles of sums, two of rows by two of weights.
#include <cstdint>

#include "kernel.h"

namespace hearth::HEARTH_ISA {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, unused[14] = {};
  uint16_t row_nbytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace

uint64_t int8_peak(int64_t rounds) {
  const TileConfig config;
  alignas(64) int8_t values[1024];
  for (int8_t& value : values) value = 3;
  asm volatile("ldtilecfg %0" ::"m"(config));
  asm volatile(
      "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
      "tileloadd (%0,%1,1), %%tmm4\n\ttileloadd (%0,%1,1), %%tmm5\n\t"
      "tileloadd (%0,%1,1), %%tmm6\n\ttileloadd (%0,%1,1), %%tmm7" ::"r"(values), "r"(int64_t{64})
      : "memory");
  for (int64_t round = 0; round < rounds; ++round)
    asm volatile(
        "tdpbssd %%tmm6, %%tmm4, %%tmm0\n\ttdpbssd %%tmm7, %%tmm4, %%tmm1\n\t"
        "tdpbssd %%tmm6, %%tmm5, %%tmm2\n\ttdpbssd %%tmm7, %%tmm5, %%tmm3" ::);
  asm volatile("tilestored %%tmm0, (%0,%1,1)" ::"r"(values), "r"(int64_t{64}) : "memory");
  asm volatile("tilerelease" ::);
  return uint64_t(uint8_t(values[0]));
}

}  // namespace hearth::HEARTH_ISA
