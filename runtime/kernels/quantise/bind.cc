// Python: native.rtn_int4 and native.rtn_int8, over as many threads as asked for, without the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "quantise/rtn.h"
#include "table.h"

namespace hearth {
namespace nb = nanobind;
namespace {

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Scales = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void need(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<float, Free>;

Scratch allocate(int64_t floats) {
  void* p = std::aligned_alloc(64, static_cast<size_t>(align_up(floats * 4, 64)));
  if (!p) throw std::bad_alloc();
  return Scratch(static_cast<float*>(p));
}

// Blocks of 16 rows, handed out one by one; rows are independent, so the order does not matter.
template <class Task, class Run>
void over_rows(const Task& task, int64_t scratch_floats, int threads, Run run) {
  const int64_t blocks = (task.rows + 15) / 16;
  threads = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, blocks)));
  std::vector<Scratch> scratch;
  for (int i = 0; i < threads; ++i) scratch.push_back(allocate(scratch_floats));
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    for (int64_t block; (block = next.fetch_add(1)) < blocks;) run(task, block * 16, scratch[thread].get());
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

void int4(Matrix weights, int64_t group, Codes codes, Codes multipliers, Scales scale, int threads) {
  const int64_t n = static_cast<int64_t>(weights.shape(0)), k = static_cast<int64_t>(weights.shape(1));
  need(group > 0, "rtn_int4: group must be positive");
  const int64_t groups = (k + group - 1) / group;
  const auto has = [](const auto& array, int64_t rows, int64_t columns) {
    return static_cast<int64_t>(array.shape(0)) == rows && static_cast<int64_t>(array.shape(1)) == columns;
  };
  need(has(codes, n, k), "rtn_int4: codes must be i8[N, K]");
  need(has(multipliers, n, groups), "rtn_int4: multipliers must be i8[N, ceil(K / group)]");
  need(static_cast<int64_t>(scale.shape(0)) == n, "rtn_int4: scale must be f32[N]");
  const RtnInt4 task{weights.data(), n, k, group, codes.data(), multipliers.data(), scale.data()};
  nb::gil_scoped_release release;
  over_rows(task, rtn_scratch(k, group), threads,
            pick(&portable::rtn_int4, &avx2::rtn_int4, &avx512vnni::rtn_int4));
}

void int8(Matrix weights, Codes codes, Scales scale, int threads) {
  const int64_t n = static_cast<int64_t>(weights.shape(0)), k = static_cast<int64_t>(weights.shape(1));
  need(codes.shape(0) == weights.shape(0) && codes.shape(1) == weights.shape(1),
       "rtn_int8: codes must be i8[N, K]");
  need(static_cast<int64_t>(scale.shape(0)) == n, "rtn_int8: scale must be f32[N]");
  const RtnInt8 task{weights.data(), n, k, codes.data(), scale.data()};
  nb::gil_scoped_release release;
  over_rows(task, rtn_scratch(k, 16), threads,
            pick(&portable::rtn_int8, &avx2::rtn_int8, &avx512vnni::rtn_int8));
}

}  // namespace

void bind_quantise(nb::module_& m) {
  m.def("rtn_int4", &int4, nb::arg("weights"), nb::arg("group"), nb::arg("codes").noconvert(), nb::arg("multipliers").noconvert(),
        nb::arg("scale").noconvert(), nb::arg("threads"));
  m.def("rtn_int8", &int8, nb::arg("weights"), nb::arg("codes").noconvert(), nb::arg("scale").noconvert(), nb::arg("threads"));
}

}  // namespace hearth
