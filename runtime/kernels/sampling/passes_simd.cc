// The passes of passes.h in vectors of doubles and 64-bit integers, one rounding per operation.
#include "sampling/passes.h"

#include "lanes.h"

namespace hearth::HEARTH_ISA {
namespace {

using namespace sampling;

typedef double Doubles __attribute__((vector_size(HEARTH_WIDTH * 4)));
typedef int64_t Longs __attribute__((vector_size(HEARTH_WIDTH * 4)));
typedef float HalfFloats __attribute__((vector_size(HEARTH_WIDTH * 2), aligned(4), may_alias));
typedef double DoublesAt __attribute__((vector_size(HEARTH_WIDTH * 4), aligned(8), may_alias));
typedef int64_t LongsAt __attribute__((vector_size(HEARTH_WIDTH * 4), aligned(8), may_alias));
typedef uint16_t Shorts __attribute__((vector_size(HEARTH_WIDTH * 4)));
typedef uint16_t ShortsAt __attribute__((vector_size(HEARTH_WIDTH * 4), aligned(2), may_alias));

constexpr int kLanes = HEARTH_WIDTH / 2;
constexpr int kShorts = HEARTH_WIDTH * 2;
constexpr double kMagic = 0x1.8p52;  // x + kMagic has x, rounded to a whole number (even), in its low bits
constexpr double kNothing = -32;     // 2^43 e^-32 rounds to 0
constexpr double kOne = double(int64_t{1} << kOneBits);

inline Doubles at(const double* p) { return *reinterpret_cast<const DoublesAt*>(p); }
inline Longs at(const int64_t* p) { return *reinterpret_cast<const LongsAt*>(p); }
inline void put(double* p, Doubles v) { *reinterpret_cast<DoublesAt*>(p) = v; }
inline void put(int64_t* p, Longs v) { *reinterpret_cast<LongsAt*>(p) = v; }
inline Doubles magnitude(Doubles v) { return (Doubles)((Longs)v & INT64_MAX); }
inline Longs whole(Doubles v) { return (Longs)(v + kMagic) - (Longs)(Doubles{} + kMagic); }  // |v| < 2^51

inline int64_t total(Longs v) {
  int64_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}

bool some_of(Longs v) {
  int64_t all = 0;
  for (int i = 0; i < kLanes; ++i) all |= v[i];
  return all != 0;
}

constexpr int kChains = 8;  // vectors whose steps alternate: each waits for its own step before

#define HEARTH_EACH _Pragma("GCC unroll 8") for (int j = 0; j < kChains; ++j)

constexpr int kParts = 16;
alignas(64) constexpr double kPowers[kParts] = {
    // 2^(i / 16), rounded
    0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
    0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
    0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
    0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0,
};

inline Doubles power_of(Longs n) {
  const Longs part = n & (kParts - 1);
#if HEARTH_WIDTH == 16
  return _mm512_permutex2var_pd(_mm512_load_pd(kPowers), __m512i(part), _mm512_load_pd(kPowers + 8));
#else
  Doubles power;
  for (int i = 0; i < kLanes; ++i) power[i] = kPowers[part[i]];
  return power;
#endif
}

// e^x for kNothing <= x <= 0: 2^(n / 16) e^r, a table and the series of Taylor (runtime/sampling/weights.py).
inline void exp_of(const Doubles* x, Doubles* y) {
  static constexpr double series[] = {1 / 720.0, 1 / 120.0, 1 / 24.0, 1 / 6.0, 1 / 2.0, 1.0, 1.0};
  Doubles shifted[kChains], r[kChains];
  HEARTH_EACH shifted[j] = x[j] * (kParts * 1.4426950408889634) + kMagic;
  HEARTH_EACH r[j] = x[j] - (shifted[j] - kMagic) * (0x1.62e42feep-1 / kParts);
  HEARTH_EACH r[j] = r[j] - (shifted[j] - kMagic) * (0x1.a39ef35793c76p-33 / kParts);
  HEARTH_EACH y[j] = Doubles{} + 1 / 5040.0;
#pragma GCC unroll 1  // unrolled, GCC would put one chain behind the other
  for (const double term : series) {
    HEARTH_EACH y[j] = y[j] * r[j];
    HEARTH_EACH y[j] = y[j] + term;
  }
  HEARTH_EACH y[j] = y[j] * power_of((Longs)shifted[j]);
  HEARTH_EACH y[j] = (Doubles)((Longs)y[j] + (((Longs)shifted[j] & ~int64_t{kParts - 1}) << 48));
}

Scan scan(const float* logits, int64_t n) {
  const Floats none = Floats{} + __builtin_inff();
  Floats best = -none, least = none;
  Ints good{};
  int64_t i = 0;
  for (; i + HEARTH_WIDTH <= n; i += HEARTH_WIDTH) {
    Floats v;
    load(v, logits + i);
    best = larger(v, best);
    least = smaller(v > -none ? v : none, least);
    good += (Ints)((Ints)(bits_of(v) & INT32_MAX) < 0x7f800000);
  }
  Scan all{n, -__builtin_inff(), __builtin_inff()};
  const auto add = [&](float high, float low) {
    all.best = high > all.best ? high : all.best;
    all.least = low < all.least ? low : all.least;
  };
  for (int lane = 0; lane < HEARTH_WIDTH; ++lane) {
    all.bad += good[lane];
    add(best[lane], least[lane]);
  }
  for (; i < n; ++i) {
    all.bad -= __builtin_fabsf(logits[i]) < __builtin_inff();
    add(logits[i], logits[i] > -__builtin_inff() ? logits[i] : __builtin_inff());
  }
  return all;
}

void mask(const float* logits, const uint32_t* words, float* to) {
  Ints bit{};
  for (int lane = 0; lane < HEARTH_WIDTH; ++lane) bit[lane] = 1 << lane;
  const Floats gone = Floats{} - __builtin_inff();
  for (int64_t i = 0; i < kBlock; i += HEARTH_WIDTH) {
    const auto bits = int32_t(words[i / 32] >> i % 32);
    Floats v;
    load(v, logits + i);
    store(to + i, ((Ints{} + bits) & bit) != 0 ? v : gone);
  }
}

void relative(const float* logits, double best, double temperature, double* x) {
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const HalfFloats v = *reinterpret_cast<const HalfFloats*>(logits + i);
    const Doubles away = __builtin_convertvector(v, Doubles) - best;
    put(x + i, temperature == 1 ? away : away / temperature);
  }
}

int64_t weigh(const double* x, int64_t n, int64_t* w) {
  Longs sum{};
  for (int64_t i = 0; i < n; i += kChains * kLanes) {
    Doubles v[kChains], y[kChains];
    Longs some[kChains], any{};
    HEARTH_EACH v[j] = at(x + i + j * kLanes);
    HEARTH_EACH some[j] = v[j] > kNothing;
    HEARTH_EACH any |= some[j];
    if (!some_of(any)) {
      HEARTH_EACH put(w + i + j * kLanes, Longs{});
      continue;
    }
    HEARTH_EACH v[j] = some[j] ? v[j] : Doubles{} + kNothing;
    exp_of(v, y);
    HEARTH_EACH {
      const Longs now = whole(y[j] * kOne) & some[j];
      put(w + i + j * kLanes, now);
      sum += now;
    }
  }
  return total(sum);
}

inline Longs step_of(Doubles distance, const Range& range) {
  const Longs in = (distance >= range.low) & (distance <= range.high);
  return whole(in ? place_of(distance, range) : Doubles{} + kSteps);
}

// w as numbers: below 2^52.
inline Doubles numbers(Longs w) { return (Doubles)(w + (Longs)(Doubles{} + kMagic)) - kMagic; }

// The sums of one token are one vector.
typedef int64_t Quad __attribute__((vector_size(32), may_alias));
static_assert(sizeof(Sums) == sizeof(Quad));

// {mass, moment, 1, 0} of each lane.
inline void put_quads(Quad* to, Longs mass, Longs moment) {
#if HEARTH_WIDTH == 16
  const Longs one = {1, 0};
  const Longs low = __builtin_shufflevector(mass, moment, 0, 8, 1, 9, 2, 10, 3, 11);
  const Longs high = __builtin_shufflevector(mass, moment, 4, 12, 5, 13, 6, 14, 7, 15);
  auto* p = reinterpret_cast<int64_t*>(to);
  put(p, __builtin_shufflevector(low, one, 0, 1, 8, 9, 2, 3, 8, 9));
  put(p + 8, __builtin_shufflevector(low, one, 4, 5, 8, 9, 6, 7, 8, 9));
  put(p + 16, __builtin_shufflevector(high, one, 0, 1, 8, 9, 2, 3, 8, 9));
  put(p + 24, __builtin_shufflevector(high, one, 4, 5, 8, 9, 6, 7, 8, 9));
#else
  for (int i = 0; i < kLanes; ++i) to[i] = Quad{mass[i], moment[i], 1, 0};
#endif
}

// Of a block.
int64_t lowest_of(const uint16_t* steps) {
  Shorts low = Shorts{} + kSteps;
  for (int64_t i = 0; i < kBlock; i += kShorts) {
    const Shorts here = *reinterpret_cast<const ShortsAt*>(steps + i);
    low = here < low ? here : low;
  }
  uint16_t least = low[0];
  for (int i = 1; i < kShorts; ++i) least = low[i] < least ? low[i] : least;
  return least;
}

int64_t climb(const double* x, const int64_t* w, const Range& range, uint16_t* steps, Tables& tables) {
  typedef uint16_t Narrow __attribute__((vector_size(kLanes * 2)));
  typedef uint16_t NarrowAt __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));
  constexpr int64_t kPart = 64;
  const Range own = range;
  int64_t step[kPart];
  Quad sums[kPart];
  for (int64_t at_part = 0; at_part < kBlock; at_part += kPart) {
    for (int64_t i = 0; i < kPart; i += kLanes) {
      const Doubles v = at(x + at_part + i);
      const Longs here = step_of(magnitude(v), own);
      put(step + i, here);
      *reinterpret_cast<NarrowAt*>(steps + at_part + i) = __builtin_convertvector(here, Narrow);
      const Longs weight = w ? at(w + at_part + i) : Longs{};
      put_quads(sums + i, weight, whole(weight > 0 ? numbers(weight) * v : Doubles{}));
    }
    for (int64_t i = 0; i < kPart; i += kTables)
      for (int64_t j = 0; j < kTables; ++j)
        *reinterpret_cast<Quad*>(&tables.of[j][step[i + j]]) += sums[i + j];
  }
  return lowest_of(steps);
}

Extent extent(const double* x, const uint16_t* steps, int64_t n, int64_t step) {
  typedef uint16_t NarrowAt __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));
  Doubles low = Doubles{} + __builtin_inf(), high{};
  for (int64_t i = 0; i < n; i += kLanes) {
    const Doubles distance = magnitude(at(x + i));
    const Longs in = __builtin_convertvector(*reinterpret_cast<const NarrowAt*>(steps + i), Longs) == step;
    low = in & (distance < low) ? distance : low;
    high = in & (distance > high) ? distance : high;
  }
  Extent all{low[0], high[0]};
  for (int i = 1; i < kLanes; ++i) {
    all.low = low[i] < all.low ? low[i] : all.low;
    all.high = high[i] > all.high ? high[i] : all.high;
  }
  return all;
}

// Bit i: whether step i is the wanted one.
inline uint32_t places_of(const uint16_t* steps, uint16_t wanted) {
#if HEARTH_WIDTH == 16
  return _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(steps), _mm512_set1_epi16(int16_t(wanted)));
#else
  if (!some_of((Longs)(*reinterpret_cast<const ShortsAt*>(steps) == wanted))) return 0;
  uint32_t bits = 0;
  for (int i = 0; i < kShorts; ++i) bits |= uint32_t(steps[i] == wanted) << i;
  return bits;
#endif
}

int64_t members(const uint16_t* steps, int64_t n, int64_t step, uint32_t* places) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += kShorts)
    for (uint32_t bits = places_of(steps + i, uint16_t(step)); bits; bits &= bits - 1)
      places[found++] = uint32_t(i) + uint32_t(__builtin_ctz(bits));
  return found;
}

void cut(const double* x, const Interval& interval, double by, double* y) {
  const Interval own = interval;
  const Doubles gone = Doubles{} - __builtin_inf();
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const Doubles v = at(x + i);
    put(y + i, (v >= own.least) & (magnitude(v - own.centre) <= own.most) ? v - by : gone);
  }
}

int64_t drop_light(double* x, int64_t* w, int64_t least) {
  const Doubles gone = Doubles{} - __builtin_inf();
  Longs sum{};
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const Longs before = at(w + i), stays = before >= least;
    put(w + i, before & stays);
    put(x + i, stays ? at(x + i) : gone);
    sum += before & stays;
  }
  return total(sum);
}

}  // namespace

extern const sampling::Passes sampling_passes;
const sampling::Passes sampling_passes{scan, mask, relative, weigh, climb, extent, members, cut, drop_light};

}  // namespace hearth::HEARTH_ISA
