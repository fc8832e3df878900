// int8_dots by vpdpbusd: its unsigned side is k + 128, so each sum starts at -128 * sum(q).
#include <immintrin.h>

#include "attention/dots.h"

namespace hearth::HEARTH_ISA {
namespace {

inline __m512i splat_quad(const int8_t* q) {
  int32_t quad;
  __builtin_memcpy(&quad, q, 4);
  return _mm512_set1_epi32(quad);
}

// `width` blocks of 16 positions at once; the codes that follow them are fetched meanwhile.
template <int rows, int width>
void dots(const int8_t* q, int64_t q_stride, const int32_t* sums, const int8_t* k, int64_t quads, int32_t* out,
          int64_t out_stride) {
  const __m512i flip = _mm512_set1_epi8(char(0x80));
  __m512i sum[rows][width];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int b = 0; b < width; ++b) sum[r][b] = _mm512_set1_epi32(-128 * sums[r]);
  for (int64_t p = 0; p < quads; ++p) {
    __m512i codes[width];
#pragma GCC unroll 4
    for (int b = 0; b < width; ++b) {
      codes[b] = _mm512_xor_si512(_mm512_loadu_si512(k + (b * quads + p) * 64), flip);
      _mm_prefetch(k + ((b + width) * quads + p) * 64, _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const __m512i quad = splat_quad(q + r * q_stride + p * 4);
#pragma GCC unroll 4
      for (int b = 0; b < width; ++b) sum[r][b] = _mm512_dpbusd_epi32(sum[r][b], codes[b], quad);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int b = 0; b < width; ++b) _mm512_storeu_si512(out + r * out_stride + b * 16, sum[r][b]);
}

template <int rows>
void group(const int8_t* q, int64_t q_stride, const int32_t* sums, const int8_t* k, int64_t blocks, int64_t quads,
           int32_t* out, int64_t out_stride) {
  constexpr int width = rows > 6 ? 2 : 4;  // sums, codes and what is splat fit 32 registers
  int64_t b = 0;
  for (; b + width <= blocks; b += width)
    dots<rows, width>(q, q_stride, sums, k + b * quads * 64, quads, out + b * 16, out_stride);
  for (; b < blocks; ++b) dots<rows, 1>(q, q_stride, sums, k + b * quads * 64, quads, out + b * 16, out_stride);
}

using Group = void (*)(const int8_t* q, int64_t q_stride, const int32_t* sums, const int8_t* k, int64_t blocks,
                       int64_t quads, int32_t* out, int64_t out_stride);
constexpr Group kOfRows[] = {group<1>, group<2>, group<3>, group<4>, group<5>, group<6>, group<7>, group<8>};

}  // namespace

void int8_dots(const int8_t* q, int64_t q_stride, const int32_t* sums, int rows, const int8_t* k, int64_t blocks,
               int64_t quads, int32_t* out, int64_t out_stride) {
  for (int r = 0; r < rows;) {
    const int left = rows - r, n = left == 7 || left == 8 ? left : left < 6 ? left : 6;
    kOfRows[n - 1](q + r * q_stride, q_stride, sums + r, k, blocks, quads, out + r * out_stride, out_stride);
    r += n;
  }
}

}  // namespace hearth::HEARTH_ISA
