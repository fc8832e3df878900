// y = x H / sqrt(q r s) in blocks of q r s columns, H = Q x R x S: two dense factors of signs, then butterflies of
// Sylvester's matrix (docs/arithmetic.md). A row is the unit of work.
#include "arithmetic.h"
#include "attributes.h"

namespace hearth::HEARTH_ISA {
namespace {

#if HEARTH_WIDTH == 16
constexpr int kVectors = 2;  // of one tile: 4 x 2 sums in registers
static inline Floats add_signed(Floats sum, Floats x, float sign) {
  return (Floats)_mm512_fmadd_ps((__m512)x, _mm512_set1_ps(sign), (__m512)sum);
}
#elif HEARTH_WIDTH == 8
constexpr int kVectors = 1;
static inline Floats add_signed(Floats sum, Floats x, float sign) {
  return (Floats)_mm256_fmadd_ps((__m256)x, _mm256_set1_ps(sign), (__m256)sum);
}
#else
constexpr int kVectors = 1;
static inline Floats add_signed(Floats sum, Floats x, float sign) { return sum + x * sign; }
#endif
// sum + sign * x with sign 1 or -1: the product is exact, so a fused one has the same bits.
template <class V>
static inline Pair<V> add_signed(Pair<V> sum, Pair<V> x, float sign) {
  return {add_signed(sum.low, x.low, sign), add_signed(sum.high, x.high, sign)};
}

constexpr int kRows = 4;  // every dense order is a multiple of 4

// y[j, i] = sum over k in order of signs[j, k] * x[k, i], for 4 rows j and 16 * vectors columns i, or n fewer ones.
template <int vectors, bool whole>
void dense_tile(const float* x, const float* signs, float* y, int64_t order, int64_t inner, int64_t n) {
  F32x16 sums[kRows][vectors];
  const auto value = [&](int64_t k, int v) {
    return whole ? load16(x + k * inner + 16 * v) : load_some(x + k * inner, n);
  };
  for (int v = 0; v < vectors; ++v)
    for (int j = 0; j < kRows; ++j) sums[j][v] = value(0, v) * signs[j * order];
  for (int64_t k = 1; k < order; ++k)
    for (int v = 0; v < vectors; ++v) {
      const F32x16 add = value(k, v);
      for (int j = 0; j < kRows; ++j) sums[j][v] = add_signed(sums[j][v], add, signs[j * order + k]);
    }
  for (int j = 0; j < kRows; ++j)
    for (int v = 0; v < vectors; ++v) {
      if (whole) store16(y + j * inner + 16 * v, sums[j][v]);
      else store_some(y + j * inner, sums[j][v], n);
    }
}

// One dense factor on n values: [n / (order inner)][order][inner].
void dense(const float* x, const float* signs, float* y, int64_t n, int64_t order, int64_t inner) {
  constexpr int64_t kWide = 16 * kVectors;
  for (int64_t at = 0; at < n; at += order * inner)
    for (int64_t j = 0; j < order; j += kRows) {
      const float* row = signs + j * order;
      float* out = y + at + j * inner;
      int64_t i = 0;
      for (; i + kWide <= inner; i += kWide) dense_tile<kVectors, true>(x + at + i, row, out + i, order, inner, kWide);
      for (; i + 16 <= inner; i += 16) dense_tile<1, true>(x + at + i, row, out + i, order, inner, 16);
      if (i < inner) dense_tile<1, false>(x + at + i, row, out + i, order, inner, inner - i);
    }
}

// Lane i of the result is lane i ^ h.
template <int h>
static inline Floats across(Floats v) {
#if HEARTH_WIDTH == 16
  return __builtin_shufflevector(v, v, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h, 8 ^ h, 9 ^ h, 10 ^ h,
                                 11 ^ h, 12 ^ h, 13 ^ h, 14 ^ h, 15 ^ h);
#elif HEARTH_WIDTH == 8
  return __builtin_shufflevector(v, v, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h);
#else
  return __builtin_shufflevector(v, v, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h);
#endif
}
template <int h, class V>
static inline Pair<V> across(Pair<V> v) {
  if constexpr (h == Pair<V>::kHalf) return {v.high, v.low};
  else return {across<h>(v.low), across<h>(v.high)};
}

alignas(64) constexpr float kTurns[4][16] = {
    {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
    {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
    {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
    {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1},
};

// Lanes i and i + h become their sum and their difference (a - b is a + (-b): the same bits).
template <int h>
static inline F32x16 stage(F32x16 v) {
  constexpr int kRow = h == 1 ? 0 : h == 2 ? 1 : h == 4 ? 2 : 3;
  return across<h>(v) + v * load16(kTurns[kRow]);
}

// The last stages on 16 values, and the scale.
static inline F32x16 last_stages(F32x16 v, float scale) { return stage<1>(stage<2>(stage<4>(stage<8>(v)))) * scale; }

// Butterflies of s >= 16 values in place.
void butterflies(float* y, int64_t s, float scale) {
  for (int64_t h = s / 2; h >= 16; h /= 2)
    for (int64_t at = 0; at < s; at += 2 * h)
      for (int64_t i = at; i < at + h; i += 16) {
        const F32x16 a = load16(y + i), b = load16(y + i + h);
        store16(y + i, a + b);
        store16(y + i + h, a - b);
      }
  for (int64_t i = 0; i < s; i += 16) store16(y + i, last_stages(load16(y + i), scale));
}

// The same for s < 16.
void few_butterflies(float* y, int64_t s, float scale) {
  for (int64_t h = s / 2; h >= 1; h /= 2)
    for (int64_t i = 0; i < s; ++i)
      if (!(i & h)) {
        const float a = y[i], b = y[i + h];
        y[i] = a + b;
        y[i + h] = a - b;
      }
  for (int64_t i = 0; i < s; ++i) y[i] *= scale;
}

}  // namespace

void hadamard(const Command& command, const Call& call) {
  const auto [n, q, r, s] = ints_of<HadamardInts>(command);
  const float scale = float(1.0 / __builtin_sqrt(double(q * r * s)));
  const float* first = row<const float>(command, 1, 0);
  const float* second = q > 1 ? first + q * q : first;
  const Share share(call.rows, call);
  for (int64_t m = share.begin; m < share.end; ++m) {
    const float* x = row<const float>(command, 0, m);
    float *y = row<float>(command, 2, m), *between = reinterpret_cast<float*>(call.scratch);
    if (q > 1) {
      float* turned = r > 1 ? between : y;
      dense(x, first, turned, n, q, r * s);
      x = turned;
    }
    if (r > 1) dense(x, second, y, n, r, s);
    if (q == 1 && r == 1) __builtin_memcpy(y, x, n * 4);
    for (int64_t at = 0; at < n; at += s) s >= 16 ? butterflies(y + at, s, scale) : few_butterflies(y + at, s, scale);
  }
}

size_t hadamard_scratch(const Command& command, int64_t) {
  const auto [k, q, r, s] = ints_of<HadamardInts>(command);
  return q > 1 && r > 1 ? k * 4 : 0;
}

}  // namespace hearth::HEARTH_ISA
