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

constexpr int kLanes = HEARTH_WIDTH / 2;
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

// e^x for kNothing <= x <= 0: 2^n e^r, the series of Taylor (runtime/sampling/weights.py).
inline void exp_of(const Doubles* x, Doubles* y) {
  static constexpr double series[] = {1 / 479001600.0, 1 / 39916800.0, 1 / 3628800.0, 1 / 362880.0, 1 / 40320.0,
                               1 / 5040.0, 1 / 720.0, 1 / 120.0, 1 / 24.0, 1 / 6.0, 1 / 2.0, 1.0, 1.0};
  Doubles shifted[kChains], r[kChains];
  HEARTH_EACH shifted[j] = x[j] * 1.4426950408889634 + kMagic;
  HEARTH_EACH r[j] = x[j] - (shifted[j] - kMagic) * 0x1.62e42feep-1;
  HEARTH_EACH r[j] = r[j] - (shifted[j] - kMagic) * 0x1.a39ef35793c76p-33;
  HEARTH_EACH y[j] = Doubles{} + 1 / 6227020800.0;
#pragma GCC unroll 1  // unrolled, GCC would put one chain behind the other
  for (const double term : series) {
    HEARTH_EACH y[j] = y[j] * r[j];
    HEARTH_EACH y[j] = y[j] + term;
  }
  HEARTH_EACH y[j] = (Doubles)((Longs)y[j] + ((Longs)shifted[j] << 52));
}

Scan scan(const float* logits, int64_t n) {
  Floats best = Floats{} - __builtin_inff();
  Ints good{};
  int64_t i = 0;
  for (; i + HEARTH_WIDTH <= n; i += HEARTH_WIDTH) {
    Floats v;
    load(v, logits + i);
    best = larger(v, best);
    good += (Ints)((Ints)(bits_of(v) & INT32_MAX) < 0x7f800000);
  }
  int64_t finite = 0;
  float most = -__builtin_inff();
  for (int lane = 0; lane < HEARTH_WIDTH; ++lane) {
    finite -= good[lane];
    most = best[lane] > most ? best[lane] : most;
  }
  for (; i < n; ++i) {
    finite += __builtin_fabsf(logits[i]) < __builtin_inff();
    most = logits[i] > most ? logits[i] : most;
  }
  return {n - finite, most};
}

double lowest(Doubles v) {
  double most = v[0];
  for (int i = 1; i < kLanes; ++i) most = v[i] < most ? v[i] : most;
  return most;
}

double relative(const float* logits, double best, double temperature, double* x) {
  Doubles low{};
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const HalfFloats v = *reinterpret_cast<const HalfFloats*>(logits + i);
    const Doubles away = __builtin_convertvector(v, Doubles) - best;
    const Doubles now = temperature == 1 ? away : away / temperature;
    put(x + i, now);
    low = (now < low) & (now > -__builtin_inf()) ? now : low;
  }
  return lowest(low);
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

inline Longs bucket_of(Doubles distance, const Range& range) {
  const Doubles last = Doubles{} + (kBuckets - 1);
  const Doubles place = (distance - range.low) * range.scale;
  const Doubles capped = place < last ? place : last;
  return whole((distance >= range.low) & (distance <= range.high) ? capped : Doubles{} + kBuckets);
}

void buckets(const double* x, int64_t n, const Range& range, int64_t* bucket) {
  const Range own = range;
  for (int64_t i = 0; i < n; i += kLanes) put(bucket + i, bucket_of(magnitude(at(x + i) - own.centre), own));
}

Extent extent(const double* x, int64_t n, const Range& range, int64_t chosen) {
  const Range own = range;
  Doubles low = Doubles{} + __builtin_inf(), high{};
  for (int64_t i = 0; i < n; i += kLanes) {
    const Doubles distance = magnitude(at(x + i) - own.centre);
    const Longs in = bucket_of(distance, own) == chosen;
    low = in & (distance < low) ? distance : low;
    high = in & (distance > high) ? distance : high;
  }
  return {lowest(low), -lowest(-high)};
}

int64_t members(const uint16_t* bucket, int64_t n, uint16_t chosen, int64_t most, uint32_t* places) {
  typedef uint16_t Shorts __attribute__((vector_size(HEARTH_WIDTH * 4), aligned(2), may_alias));
  constexpr int kShorts = HEARTH_WIDTH * 2;
  int64_t found = 0;
  for (int64_t i = 0; i < n && found <= most; i += kShorts) {
    const auto same = (Longs)(*reinterpret_cast<const Shorts*>(bucket + i) == chosen);
    if (!some_of(same)) continue;
    for (int j = 0; j < kShorts; ++j) {
      places[found] = uint32_t(i + j);
      found += bucket[i + j] == chosen;
    }
  }
  return found;
}

void cut(double* x, int64_t n, double most) {
  const Doubles gone = Doubles{} - __builtin_inf();
  for (int64_t i = 0; i < n; i += kLanes) {
    const Doubles v = at(x + i);
    put(x + i, magnitude(v) <= most ? v : gone);
  }
}

Sums keep(const double* x, int64_t* w, int64_t n, double centre, double most, int64_t least) {
  Longs sum{}, products{};
  Doubles best = Doubles{} - __builtin_inf();
  for (int64_t i = 0; i < n; i += kLanes) {
    const Doubles v = at(x + i);
    const Longs before = at(w + i);
    const Longs stays = (magnitude(v - centre) <= most) & (before >= least);
    const Longs now = before & stays, some = now > 0;
    put(w + i, now);
    sum += now;
    const Doubles product = ((Doubles)(now + (Longs)(Doubles{} + kMagic)) - kMagic) * v;
    products += whole(some ? product : Doubles{});
    best = some & (v > best) ? v : best;
  }
  return {total(sum), total(products), -lowest(-best)};
}

void shift(double* x, const int64_t* w, int64_t n, double by) {
  const Doubles gone = Doubles{} - __builtin_inf();
  for (int64_t i = 0; i < n; i += kLanes) put(x + i, at(w + i) > 0 ? at(x + i) - by : gone);
}

}  // namespace

extern const sampling::Passes sampling_passes;
const sampling::Passes sampling_passes{scan, relative, weigh, buckets, extent, members, cut, keep, shift};

}  // namespace hearth::HEARTH_ISA
