// int8_dots in plain C++.
#include "attention/dots.h"

namespace hearth::HEARTH_ISA {

void int8_dots(const int8_t* q, int64_t q_stride, const int32_t*, int rows, const int8_t* k, int64_t blocks,
               int64_t quads, int32_t* out, int64_t out_stride) {
  for (int64_t b = 0; b < blocks; ++b)
    for (int r = 0; r < rows; ++r) {
      int32_t sum[16] = {};
      for (int64_t p = 0; p < quads; ++p) {
        const int8_t *kp = k + (b * quads + p) * 64, *qp = q + r * q_stride + p * 4;
        for (int n = 0; n < 16; ++n)
          sum[n] += kp[4 * n] * qp[0] + kp[4 * n + 1] * qp[1] + kp[4 * n + 2] * qp[2] + kp[4 * n + 3] * qp[3];
      }
      __builtin_memcpy(out + r * out_stride + b * 16, sum, sizeof sum);
    }
}

}  // namespace hearth::HEARTH_ISA
