// Round-to-nearest search of 16 channels at once; compiler/quantize/rtn.py defines every step.
#pragma once

#include "kernel.h"

namespace hearth {

struct RtnInt4 {
  const float* weights;  // f32[rows, k]
  int64_t rows, k, group;
  int8_t* codes;        // s8[rows, k]
  int8_t* multipliers;  // s8[rows, ceil(k / group)]
  float* scale;         // f32[rows]
};
struct RtnInt8 {
  const float* weights;
  int64_t rows, k;
  int8_t* codes;
  float* scale;
};

// Floats of scratch for rtn_int4 and rtn_int8, 64-byte aligned.
inline int64_t rtn_scratch(int64_t k, int64_t group) {
  return align_up(k, group) * 16 + align_up(k, group) / group * 16 * 4;
}

#define HEARTH_RTN(isa)                                                        \
  namespace isa {                                                              \
  /* Rows first .. first + 16, fewer at the end. */                            \
  void rtn_int4(const RtnInt4& task, int64_t first, float* scratch);           \
  void rtn_int8(const RtnInt8& task, int64_t first, float* scratch);           \
  }
HEARTH_RTN(portable)
HEARTH_RTN(avx2)
HEARTH_RTN(avx512vnni)
#undef HEARTH_RTN

}  // namespace hearth
