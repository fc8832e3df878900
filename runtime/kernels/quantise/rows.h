// What the bindings of the searches share: arrays, scratch, and rows over threads.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "table.h"

namespace hearth {
namespace nb = nanobind;

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Scales = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

inline void need(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<float, Free>;

inline Scratch allocate(int64_t floats) {
  void* p = std::aligned_alloc(64, static_cast<size_t>(align_up(floats * 4, 64)));
  if (!p) throw std::bad_alloc();
  return Scratch(static_cast<float*>(p));
}

// Blocks of rows, handed out one by one; rows are independent, so the order does not matter.
template <class Task, class Run>
void over_rows(const Task& task, int64_t scratch_floats, int threads, Run run, int64_t block_rows = 16) {
  const int64_t blocks = (task.rows + block_rows - 1) / block_rows;
  threads = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, blocks)));
  std::vector<Scratch> scratch;
  for (int i = 0; i < threads; ++i) scratch.push_back(allocate(scratch_floats));
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    for (int64_t block; (block = next.fetch_add(1)) < blocks;) run(task, block * block_rows, scratch[thread].get());
  };
  std::vector<std::jthread> pool;
  for (int i = 1; i < threads; ++i) pool.emplace_back(work, i);
  work(0);
}

template <class Run>
Run pick(Run portable, Run avx2, Run avx512vnni) {
  switch (cpu_isas().back()) {
    case kAmx:
    case kAvx512Vnni: return avx512vnni;
    case kAvx2: return avx2;
    default: return portable;
  }
}

}  // namespace hearth
