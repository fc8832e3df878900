// int8_dots by vpmaddubsw: |k| is unsigned, and q takes its sign. Codes lie in -127..127, so that a pair of
// products, at most 2 * 127 * 127, stays within 16 bits.
#include <immintrin.h>

#include "attention/dots.h"

namespace hearth::HEARTH_ISA {
namespace {

inline __m256i multiply_add(__m256i sum, __m256i k, __m256i magnitude, const int8_t* q) {
  int32_t quad;
  __builtin_memcpy(&quad, q, 4);
  const __m256i signed_q = _mm256_sign_epi8(_mm256_set1_epi32(quad), k);
  const __m256i pairs = _mm256_maddubs_epi16(magnitude, signed_q);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

template <int rows>
void dots(const int8_t* q, int64_t q_stride, const int8_t* k, int64_t blocks, int64_t quads, int32_t* out,
          int64_t out_stride) {
  for (int64_t half = 0; half < 2 * blocks; ++half) {  // 8 positions
    const int8_t* from = k + half / 2 * quads * 64 + half % 2 * 32;
    __m256i sum[rows];
    for (auto& s : sum) s = _mm256_setzero_si256();
    for (int64_t p = 0; p < quads; ++p) {
      const __m256i codes = _mm256_loadu_si256((const __m256i*)(from + p * 64)), magnitude = _mm256_abs_epi8(codes);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) sum[r] = multiply_add(sum[r], codes, magnitude, q + r * q_stride + p * 4);
    }
    for (int r = 0; r < rows; ++r) _mm256_storeu_si256((__m256i*)(out + r * out_stride + half * 8), sum[r]);
  }
}

using Dots = void (*)(const int8_t* q, int64_t q_stride, const int8_t* k, int64_t blocks, int64_t quads, int32_t* out,
                      int64_t out_stride);
constexpr Dots kOfRows[] = {dots<1>, dots<2>, dots<3>, dots<4>, dots<5>, dots<6>};
constexpr int kMost = 6;

}  // namespace

void int8_dots(const int8_t* q, int64_t q_stride, const int32_t*, int rows, const int8_t* k, int64_t blocks,
               int64_t quads, int32_t* out, int64_t out_stride) {
  for (int r = 0; r < rows; r += kMost) {
    const int n = rows - r < kMost ? rows - r : kMost;
    kOfRows[n - 1](q + r * q_stride, q_stride, k, blocks, quads, out + r * out_stride, out_stride);
  }
}

}  // namespace hearth::HEARTH_ISA
