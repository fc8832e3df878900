// One tile of the float linears: kRows x kBlocks accumulators of 16 channels, fma over k in order.
//
// fma rounds once whether it is an instruction or libm's fmaf, so every ISA gives the same bits.
#pragma once

#include "half16.h"
#include "linear/parts.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace hearth::HEARTH_ISA {

#if defined(__AVX512F__)
struct Lanes {  // 16 channels
  __m512 v;
  static Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Lanes load(const uint16_t* p) { return {(__m512)load_half16(p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void fma(float x, const Lanes& w) { v = _mm512_fmadd_ps(_mm512_set1_ps(x), w.v, v); }
};
constexpr int kTileRows = 6, kTileBlocks = 4, kDirectRows = 8;
#elif defined(__AVX2__)
struct Lanes {
  __m256 low, high;
  static Lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Lanes load(const uint16_t* p) {
    const F32x16 v = load_half16(p);
    return {(__m256)v.low, (__m256)v.high};
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, low);
    _mm256_storeu_ps(p + 8, high);
  }
  void fma(float x, const Lanes& w) {
    const __m256 all = _mm256_set1_ps(x);
    low = _mm256_fmadd_ps(all, w.low, low);
    high = _mm256_fmadd_ps(all, w.high, high);
  }
};
constexpr int kTileRows = 6, kTileBlocks = 1, kDirectRows = 4;
#else
struct Lanes {
  float v[16];
  static Lanes load(const float* p) {
    Lanes lanes;
    for (int i = 0; i < 16; ++i) lanes.v[i] = p[i];
    return lanes;
  }
  static Lanes load(const uint16_t* p) {
    Lanes lanes;
    store16(lanes.v, load_half16(p));
    return lanes;
  }
  void store(float* p) const {
    for (int i = 0; i < 16; ++i) p[i] = v[i];
  }
  void fma(float x, const Lanes& w) {
    for (int i = 0; i < 16; ++i) v[i] = __builtin_fmaf(x, w.v[i], v[i]);
  }
};
constexpr int kTileRows = 1, kTileBlocks = 1, kDirectRows = 1;
#endif

static inline Lanes lanes_of(F32x16 v) {
#if defined(__AVX512F__)
  return {(__m512)v};
#elif defined(__AVX2__)
  return {(__m256)v.low, (__m256)v.high};
#else
  Lanes lanes;
  store16(lanes.v, v);
  return lanes;
#endif
}

// sums[r][b] += x[r][k] * w[b][k] for k in 0 .. count. Rows of x lie x_stride bytes apart, rows of sums `sums_stride`
// floats. Weights are W[16] per k and block: of packed blocks, w_stride bytes apart, one k after the other; of a panel
// (w_stride is not read) f32[k][kBlocks][16].
struct TileArgs {
  const uint8_t* x;
  int64_t x_stride;
  const uint8_t* w;
  int64_t w_stride, w_next;  // w_next: from the blocks of one tile to those of the next
  float* sums;
  int64_t sums_stride;
  int64_t count;
};

struct PanelFloats {};  // W of a panel

template <class W>
struct Weights {
  using Value = W;
  static constexpr int64_t step(int) { return sizeof(W) * 16; }
  static int64_t stride(const TileArgs& t) { return t.w_stride; }
};
template <>
struct Weights<PanelFloats> {
  using Value = float;
  static constexpr int64_t step(int blocks) { return blocks * 64; }
  static constexpr int64_t stride(const TileArgs&) { return 64; }
};

template <class W, int kRows, int kBlocks>
static void float_tile(const TileArgs& args) {
  using Read = Weights<W>;
  const TileArgs t = args;  // a copy: what the tile writes could else be its arguments
  const int64_t w_stride = Read::stride(t);
  const uint8_t *packed = t.w, *x_at = t.x;
  Lanes acc[kRows][kBlocks];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) acc[r][b] = Lanes::load(t.sums + r * t.sums_stride + b * 16);
  for (int64_t k = 0; k < t.count; ++k, packed += Read::step(kBlocks), x_at += 4) {
    Lanes w[kBlocks];
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b)
      w[b] = Lanes::load(reinterpret_cast<const typename Read::Value*>(packed + b * w_stride));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float x = *reinterpret_cast<const float*>(x_at + r * t.x_stride);
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) acc[r][b].fma(x, w[b]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) acc[r][b].store(t.sums + r * t.sums_stride + b * 16);
}

}  // namespace hearth::HEARTH_ISA
