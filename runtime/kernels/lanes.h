// 16 lanes of f32 or i32 as the ISA's own vectors: one of 16, two of 8, or four of 4. Only what the definitions
// of arithmetic.h need; the same operations in the same order on every ISA, so the same bits.
//
// A vector wider than the ISA's own would be legal C++ for GCC too, but it keeps such values in memory.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace hearth::HEARTH_ISA {

typedef float F32x4 __attribute__((vector_size(16)));
typedef float F32x8 __attribute__((vector_size(32)));
typedef int32_t I32x4 __attribute__((vector_size(16)));
typedef int32_t I32x8 __attribute__((vector_size(32)));
typedef int16_t I16x8 __attribute__((vector_size(16)));
typedef int8_t I8x16 __attribute__((vector_size(16)));

#if defined(__AVX512F__)
#define HEARTH_WIDTH 16
#elif defined(__AVX2__)
#define HEARTH_WIDTH 8
#else
#define HEARTH_WIDTH 4
#endif
typedef float Floats __attribute__((vector_size(HEARTH_WIDTH * 4)));
typedef int32_t Ints __attribute__((vector_size(HEARTH_WIDTH * 4)));
typedef float FloatsInMemory __attribute__((vector_size(HEARTH_WIDTH * 4), aligned(4), may_alias));

template <class V>
struct Pair {
  V low, high;
  auto operator[](int64_t i) const { return i < kHalf ? low[i] : high[i - kHalf]; }
  static constexpr int kHalf = sizeof(V) / 4;
};

#if HEARTH_WIDTH == 16
typedef Floats F32x16;
typedef Ints I32x16;
#elif HEARTH_WIDTH == 8
typedef Pair<Floats> F32x16;
typedef Pair<Ints> I32x16;
#else
typedef Pair<Pair<Floats>> F32x16;
typedef Pair<Pair<Ints>> I32x16;
#endif

#define HEARTH_OPERATOR(op)                                                       \
  template <class V>                                                              \
  [[gnu::always_inline]] static inline auto operator op(Pair<V> a, Pair<V> b) {   \
    return Pair<decltype(a.low op b.low)>{a.low op b.low, a.high op b.high};      \
  }                                                                               \
  template <class V, class S>                                                     \
  [[gnu::always_inline]] static inline auto operator op(Pair<V> a, S b) {         \
    return Pair<decltype(a.low op b)>{a.low op b, a.high op b};                   \
  }                                                                               \
  template <class V, class S>                                                     \
  [[gnu::always_inline]] static inline auto operator op(S a, Pair<V> b) {         \
    return Pair<decltype(a op b.low)>{a op b.low, a op b.high};                   \
  }
HEARTH_OPERATOR(+)
HEARTH_OPERATOR(-)
HEARTH_OPERATOR(*)
HEARTH_OPERATOR(/)
HEARTH_OPERATOR(&)
HEARTH_OPERATOR(|)
HEARTH_OPERATOR(^)
HEARTH_OPERATOR(<<)
HEARTH_OPERATOR(>>)
HEARTH_OPERATOR(<)
HEARTH_OPERATOR(>)
HEARTH_OPERATOR(<=)
HEARTH_OPERATOR(>=)
HEARTH_OPERATOR(==)
HEARTH_OPERATOR(!=)
#undef HEARTH_OPERATOR

template <class V>
static inline Pair<V> operator-(Pair<V> a) {
  return {-a.low, -a.high};
}

// Lane by lane: mask is 0 or -1, as comparisons give it.
static inline Floats select16(Ints mask, Floats yes, Floats no) { return mask ? yes : no; }
static inline Ints select16(Ints mask, Ints yes, Ints no) { return mask ? yes : no; }
template <class M, class V>
static inline Pair<V> select16(Pair<M> mask, Pair<V> yes, Pair<V> no) {
  return {select16(mask.low, yes.low, no.low), select16(mask.high, yes.high, no.high)};
}

// a > b ? a : b and a < b ? a : b as one instruction: b where one of them is a NaN.
#if HEARTH_WIDTH == 16
static inline Floats larger(Floats a, Floats b) { return (Floats)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b); }
static inline Floats smaller(Floats a, Floats b) { return (Floats)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b); }
#elif HEARTH_WIDTH == 8
static inline Floats larger(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
static inline Floats smaller(Floats a, Floats b) { return (Floats)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__SSE2__)
static inline Floats larger(Floats a, Floats b) { return (Floats)_mm_max_ps((__m128)a, (__m128)b); }
static inline Floats smaller(Floats a, Floats b) { return (Floats)_mm_min_ps((__m128)a, (__m128)b); }
#else
static inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
static inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
#endif
template <class V>
static inline Pair<V> larger(Pair<V> a, Pair<V> b) {
  return {larger(a.low, b.low), larger(a.high, b.high)};
}
template <class V>
static inline Pair<V> smaller(Pair<V> a, Pair<V> b) {
  return {smaller(a.low, b.low), smaller(a.high, b.high)};
}

static inline Floats to_float(Ints v) { return __builtin_convertvector(v, Floats); }
template <class V>
static inline auto to_float(Pair<V> v) {
  return Pair<decltype(to_float(v.low))>{to_float(v.low), to_float(v.high)};
}
static inline Ints to_int(Floats v) { return __builtin_convertvector(v, Ints); }  // |v| < 2^31, whole
template <class V>
static inline auto to_int(Pair<V> v) {
  return Pair<decltype(to_int(v.low))>{to_int(v.low), to_int(v.high)};
}
static inline Floats bits_to_float(Ints v) { return (Floats)v; }
template <class V>
static inline auto bits_to_float(Pair<V> v) {
  return Pair<decltype(bits_to_float(v.low))>{bits_to_float(v.low), bits_to_float(v.high)};
}
static inline Ints bits_of(Floats v) { return (Ints)v; }
template <class V>
static inline auto bits_of(Pair<V> v) {
  return Pair<decltype(bits_of(v.low))>{bits_of(v.low), bits_of(v.high)};
}

static inline void load(Floats& v, const float* p) { v = *reinterpret_cast<const FloatsInMemory*>(p); }
static inline void store(float* p, Floats v) { *reinterpret_cast<FloatsInMemory*>(p) = v; }
template <class V>
static inline void load(Pair<V>& v, const float* p) {
  load(v.low, p);
  load(v.high, p + v.kHalf);
}
template <class V>
static inline void store(float* p, Pair<V> v) {
  store(p, v.low);
  store(p + v.kHalf, v.high);
}

static inline F32x16 load16(const float* p) {
  F32x16 v;
  load(v, p);
  return v;
}
static inline void store16(float* p, F32x16 v) { store(p, v); }
static inline I32x16 load16_int(const void* p) { return bits_of(load16(static_cast<const float*>(p))); }
static inline F32x16 splat(float x) { return F32x16{} + x; }
static inline I32x16 splat_int(int32_t x) { return I32x16{} + x; }

// The first n lanes from memory, the others +0.
static inline F32x16 load_some(const float* p, int64_t n) {
  float lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load16(lanes);
}
static inline void store_some(float* p, F32x16 v, int64_t n) {
  float lanes[16];
  store16(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
static inline F32x16 load_upto(const float* p, int64_t n) { return n >= 16 ? load16(p) : load_some(p, n); }
static inline void store_upto(float* p, F32x16 v, int64_t n) {
  if (n >= 16) store16(p, v);
  else store_some(p, v, n);
}

// The fixed tree of 8, 4, 2, 1: lanes j and j + h meet.
struct Sum {
  template <class V>
  V operator()(V a, V b) const { return a + b; }
};
struct Most {
  template <class V>
  V operator()(V a, V b) const { return a > b ? a : b; }
};
template <class F>
static inline auto reduce(F32x4 v, F f) { return f(f(v[0], v[2]), f(v[1], v[3])); }
template <class F>
static inline auto reduce(I32x4 v, F f) { return f(f(v[0], v[2]), f(v[1], v[3])); }
template <class F>
static inline auto reduce(F32x8 v, F f) {
  return reduce(f(__builtin_shufflevector(v, v, 0, 1, 2, 3), __builtin_shufflevector(v, v, 4, 5, 6, 7)), f);
}
template <class F>
static inline auto reduce(I32x8 v, F f) {
  return reduce(f(__builtin_shufflevector(v, v, 0, 1, 2, 3), __builtin_shufflevector(v, v, 4, 5, 6, 7)), f);
}
#if HEARTH_WIDTH == 16
template <class V, class F>
static inline auto reduce(V v, F f) {
  return reduce(f(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                  __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)), f);
}
#elif HEARTH_WIDTH == 8
template <class V, class F>
static inline auto reduce(Pair<V> v, F f) { return reduce(f(v.low, v.high), f); }
#else
template <class V, class F>
static inline auto reduce(Pair<Pair<V>> v, F f) {
  return reduce(f(f(v.low.low, v.high.low), f(v.low.high, v.high.high)), f);
}
#endif
static inline float reduce_add(F32x16 v) { return reduce(v, Sum{}); }
static inline float reduce_max(F32x16 v) { return reduce(v, Most{}); }
static inline int32_t reduce_max_int(I32x16 v) { return reduce(v, Most{}); }
static inline int32_t reduce_add_int(I32x16 v) { return reduce(v, Sum{}); }

// To and from int8; narrow() is for values in -128..127 (others saturate).
#if HEARTH_WIDTH == 16
static inline I8x16 narrow(I32x16 v) { return (I8x16)_mm512_cvtsepi32_epi8((__m512i)v); }
static inline I32x16 widen(I8x16 v) { return (I32x16)_mm512_cvtepi8_epi32((__m128i)v); }
#elif HEARTH_WIDTH == 8
static inline __m128i narrow_half(I32x8 v) {
  return _mm_packs_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
}
static inline I8x16 narrow(I32x16 v) { return (I8x16)_mm_packs_epi16(narrow_half(v.low), narrow_half(v.high)); }
static inline I32x16 widen(I8x16 v) {
  const __m128i high = _mm_unpackhi_epi64((__m128i)v, (__m128i)v);
  return {(I32x8)_mm256_cvtepi8_epi32((__m128i)v), (I32x8)_mm256_cvtepi8_epi32(high)};
}
#else
static inline I8x16 narrow(I32x16 v) {
#if defined(__SSE2__)
  const __m128i low = _mm_packs_epi32((__m128i)v.low.low, (__m128i)v.low.high);
  const __m128i high = _mm_packs_epi32((__m128i)v.high.low, (__m128i)v.high.high);
  return (I8x16)_mm_packs_epi16(low, high);
#else
  I8x16 out;
  for (int i = 0; i < 16; ++i) out[i] = int8_t(v[i] > 127 ? 127 : v[i] < -128 ? -128 : v[i]);
  return out;
#endif
}
static inline Pair<I32x4> widen_half(I16x8 v) {
  return {(I32x4)__builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3) >> 16,
          (I32x4)__builtin_shufflevector(v, v, 4, 4, 5, 5, 6, 6, 7, 7) >> 16};
}
static inline I32x16 widen(I8x16 v) {
  const I16x8 low = (I16x8)__builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const I16x8 high =
      (I16x8)__builtin_shufflevector(v, v, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
  return {widen_half(low >> 8), widen_half(high >> 8)};
}
#endif

}  // namespace hearth::HEARTH_ISA
