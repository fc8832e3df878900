// What this machine can do at most: loops that only read memory, and loops that only compute in registers.
//
// `hearth bench` measures them beside a model, so that its rates can be told as fractions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernel.h"

namespace hearth {

// Reads [p, p + nbytes): p on a 64-byte boundary, nbytes a multiple of 1024. What it returns only keeps the reads.
using ReadFn = uint64_t (*)(const std::byte* p, int64_t nbytes);
// `rounds` times the body of a loop whose chains hide the latency of its instructions.
using PeakFn = uint64_t (*)(int64_t rounds);

constexpr int64_t kReadStep = 1024;

struct Peak {
  std::string_view kind;  // "int8" or "f32"
  Isa isa;
  PeakFn run;
  int64_t operations;  // of one round; a multiplication and an addition count as two
};

// Each pass's rate in bytes or operations per second, all threads together, for about `seconds`.
// Bad arguments throw std::invalid_argument.
std::vector<double> measure_read(std::span<const std::byte> memory, int threads, double seconds);
// Over memory of its own, in huge pages where the system gives them; freed before this returns.
std::vector<double> measure_read(int64_t nbytes, int threads, double seconds);
// The loop of the highest ISA up to `isa`.
std::vector<double> measure_peak(std::string_view kind, int threads, Isa isa, double seconds);

}  // namespace hearth
