// The measurements: every thread of a pool like the engine's does its share, pass after pass.
#include "limits/limits.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>

#include "executor/pages.h"
#include "executor/placement.h"
#include "executor/pool.h"
#include "table.h"

namespace hearth {

#define PEAK(kind, isa, run, operations) \
  namespace isa {                        \
  uint64_t run(int64_t);                 \
  }
#include "limits/limits.def"
#undef PEAK

namespace portable {
uint64_t read_all(const std::byte*, int64_t);
}
#if defined(__x86_64__)
namespace avx2 {
uint64_t read_all(const std::byte*, int64_t);
}
#endif

namespace {

constexpr int64_t kMostBytes = int64_t{1} << 40;
constexpr int kMostPasses = 4096;  // of one measurement
constexpr double kPeakPass_s = 4e-3;

[[maybe_unused]] constexpr Isa isa_portable = kPortable, isa_avx2 = kAvx2, isa_avx512vnni = kAvx512Vnni,
                              isa_amx = kAmx;

constexpr Peak kPeaks[] = {
#define PEAK(kind, isa, run, operations) {#kind, isa_##isa, isa::run, operations},
#include "limits/limits.def"
#undef PEAK
};

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

void check(int threads, double seconds) {
  if (threads < 1 || threads > 1024) throw std::invalid_argument("threads is not in 1..1024");
  if (!(seconds > 0 && seconds <= 60)) throw std::invalid_argument("seconds is not above 0 and at most 60");
}

// Half a line at a time: on Zen 4 loads of whole lines read memory 7 % slower.
ReadFn best_read() {
#if defined(__x86_64__)
  if (cpu_isas().back() >= kAvx2) return avx2::read_all;
#endif
  return portable::read_all;
}

const Peak& peak_of(std::string_view kind, Isa isa) {
  const Peak* best = nullptr;
  for (const Peak& peak : kPeaks)
    if (peak.kind == kind && peak.isa <= isa && (!best || peak.isa > best->isa)) best = &peak;
  if (!best) throw std::invalid_argument("no peak of the kind '" + std::string(kind) + "'; expected int8 or f32");
  return *best;
}

// Passes of all threads until the time is over, at least three; the first, which warms up, does not count.
template <class Work>
std::vector<double> passes(int threads, double seconds, double amount, Work work) {
  Pool pool(threads);
  const Placement placement = one_core_each(threads);
  std::vector<Whereabouts> notes(threads);
  std::vector<double> rates;
  const double began = now();
  for (int pass = 0; pass <= kMostPasses && (pass < 4 || now() - began < seconds); ++pass) {
    const double start = now();
    pool.run([](void* context, int thread) { (*static_cast<Work*>(context))(thread); }, &work, placement,
             notes.data());
    const double took = now() - start;
    if (pass > 0 && took > 0) rates.push_back(amount / took);
  }
  return rates;
}

}  // namespace

std::vector<double> measure_read(std::span<const std::byte> memory, int threads, double seconds) {
  check(threads, seconds);
  const auto skipped = size_t(-reinterpret_cast<uintptr_t>(memory.data()) % 64);
  const int64_t steps = (int64_t(memory.size()) - int64_t(skipped)) / kReadStep;
  if (steps < threads) throw std::invalid_argument("there is less memory than a step of reading for each thread");
  const std::byte* data = memory.data() + skipped;
  const ReadFn read = best_read();
  std::atomic<uint64_t> kept{0};
  const auto work = [&](int thread) {
    const int64_t begin = steps * thread / threads, end = steps * (thread + 1) / threads;
    kept.fetch_xor(read(data + begin * kReadStep, (end - begin) * kReadStep), std::memory_order_relaxed);
  };
  return passes(threads, seconds, double(steps * kReadStep), work);
}

std::vector<double> measure_read(int64_t nbytes, int threads, double seconds) {
  check(threads, seconds);
  if (nbytes < kReadStep || nbytes > kMostBytes) throw std::invalid_argument("nbytes is out of range");
  Pages pages(size_t(nbytes), true);
  std::memset(pages.data(), 1, size_t(nbytes));  // untouched pages would all be one page of zeros
  return measure_read({pages.data(), size_t(nbytes)}, threads, seconds);
}

std::vector<double> measure_peak(std::string_view kind, int threads, Isa isa, double seconds) {
  check(threads, seconds);
  const Peak& peak = peak_of(kind, isa);
  std::atomic<uint64_t> kept{0};
  int64_t rounds = 1000;
  for (double took = 0; took < kPeakPass_s && rounds < int64_t{1} << 40; rounds *= 2) {
    const double start = now();
    kept.fetch_xor(peak.run(rounds), std::memory_order_relaxed);
    took = now() - start;
  }
  const auto work = [&](int) { kept.fetch_xor(peak.run(rounds), std::memory_order_relaxed); };
  return passes(threads, seconds, double(peak.operations) * double(rounds) * threads, work);
}

}  // namespace hearth
