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

// `width` blocks of 16 positions at once.
template <int rows, int width>
void dots(const int8_t* q, int64_t q_stride, const __m512i* start, const int8_t* k, int64_t quads, int32_t* out,
          int64_t out_stride) {
  const __m512i flip = _mm512_set1_epi8(char(0x80));
  __m512i sum[rows][width];
  for (int r = 0; r < rows; ++r)
    for (int b = 0; b < width; ++b) sum[r][b] = start[r];
  for (int64_t p = 0; p < quads; ++p) {
    __m512i codes[width];
#pragma GCC unroll 4
    for (int b = 0; b < width; ++b)
      codes[b] = _mm512_xor_si512(_mm512_loadu_si512(k + (b * quads + p) * 64), flip);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const __m512i quad = splat_quad(q + r * q_stride + p * 4);
#pragma GCC unroll 4
      for (int b = 0; b < width; ++b) sum[r][b] = _mm512_dpbusd_epi32(sum[r][b], codes[b], quad);
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int b = 0; b < width; ++b) _mm512_storeu_si512(out + r * out_stride + b * 16, sum[r][b]);
}

template <int rows>
void tile(const int8_t* q, int64_t q_stride, const int8_t* k, int64_t blocks, int64_t quads, int32_t* out,
          int64_t out_stride) {
  constexpr int width = rows > 2 ? 2 : 4;
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i start[rows];
  for (int r = 0; r < rows; ++r) {
    __m512i sum = _mm512_setzero_si512();  // in every lane the sum over all quads
    for (int64_t p = 0; p < quads; ++p) sum = _mm512_dpbusd_epi32(sum, ones, splat_quad(q + r * q_stride + p * 4));
    start[r] = (__m512i)((I32x16)sum * -128);
  }
  int64_t b = 0;
  for (; b + width <= blocks; b += width)
    dots<rows, width>(q, q_stride, start, k + b * quads * 64, quads, out + b * 16, out_stride);
  for (; b < blocks; ++b) dots<rows, 1>(q, q_stride, start, k + b * quads * 64, quads, out + b * 16, out_stride);
}

constexpr Dots kOfRows[kTile] = {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};

}  // namespace

void int8_dots(const int8_t* q, int64_t q_stride, int rows, const int8_t* k, int64_t blocks, int64_t quads,
               int32_t* out, int64_t out_stride) {
  kOfRows[rows - 1](q, q_stride, k, blocks, quads, out, out_stride);
}

}  // namespace hearth::HEARTH_ISA
