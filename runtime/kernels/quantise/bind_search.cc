// Python: the searches over grids, GPTQ and its factor (compiler/quantize), over threads, without the GIL.
#include "quantise/grid.h"
#include "quantise/rows.h"

namespace hearth {
namespace {

using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Whole = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Cube = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<const int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Nearest = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Doubles = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class Array>
bool has(const Array& array, int64_t rows, int64_t columns) {
  return static_cast<int64_t>(array.shape(0)) == rows && static_cast<int64_t>(array.shape(1)) == columns;
}

// What every search is given; `levels` may be missing.
template <class Task>
Task coded(const Matrix& weights, const Values& values, int lowest, double reach, bool bf16, int64_t group,
           const Codes& multipliers, const Scales& scale, const Codes* levels) {
  Task task{};
  const int highest = lowest + static_cast<int>(values.shape(0)) - 1;
  need(values.shape(1) == kCells, "values must be i8[multipliers, 512]");
  task.grid = {values.data(), lowest, highest, static_cast<float>(reach), static_cast<float>(reach * highest), bf16};
  task.weights = weights.data();
  task.rows = static_cast<int64_t>(weights.shape(0)), task.k = static_cast<int64_t>(weights.shape(1));
  task.group = group;
  need(group > 0 && task.k > 0, "group and K must be positive");
  need(has(multipliers, task.rows, task.groups()), "multipliers must be i8[N, ceil(K / group)]");
  need(static_cast<int64_t>(scale.shape(0)) == task.rows, "scale must be f32[N]");
  need(!levels || has(*levels, task.rows, task.k), "levels must be i8[N, K]");
  task.multipliers = multipliers.data(), task.scale = scale.data();
  task.levels = levels ? levels->data() : nullptr;
  return task;
}

void limited(const Coded& task) {
  for (int64_t i = 0; i < task.rows * task.groups(); ++i)
    need(task.multipliers[i] >= task.grid.lowest && task.multipliers[i] <= task.grid.highest,
         "a multiplier that the grid does not have");
}

void search_steps(Matrix weights, Vector importance, Values values, int lowest, double reach, bool bf16, int64_t group,
                  Vector factors, Vector clips, Codes multipliers, Scales scale, int threads) {
  auto task = coded<Search>(weights, values, lowest, reach, bf16, group, multipliers, scale, nullptr);
  need(static_cast<int64_t>(importance.shape(0)) == task.k, "importance must be f32[K]");
  std::vector<float> padded(static_cast<size_t>(task.groups() * task.wide()));
  for (int64_t i = 0; i < task.k; ++i) padded[i / group * task.wide() + i % group] = importance.data()[i];
  task.importance = padded.data();
  task.factors = factors.data(), task.factor_count = static_cast<int64_t>(factors.shape(0));
  task.clips = clips.data(), task.clip_count = static_cast<int64_t>(clips.shape(0));
  nb::gil_scoped_release release;
  over_rows(task, task.scratch(), threads, pick(&portable::search_row, &avx2::search_row, &avx512vnni::search_row), 1);
}

void nearest_levels(Matrix weights, Values values, int lowest, int64_t group, Codes multipliers, Scales scale,
                    Codes levels, int threads) {
  const auto task = coded<Coded>(weights, values, lowest, 1, false, group, multipliers, scale, &levels);
  limited(task);
  nb::gil_scoped_release release;
  over_rows(task, 16, threads, pick(&portable::nearest_row, &avx2::nearest_row, &avx512vnni::nearest_row), 1);
}

// Levels become codes, in place.
void level_codes(Codes levels, Nearest nearest, int lowest, int first, int64_t group, Codes multipliers, int threads) {
  struct Task {
    int64_t rows, k, group;
  } const task{static_cast<int64_t>(levels.shape(0)), static_cast<int64_t>(levels.shape(1)), group};
  need(group > 0 && nearest.shape(1) == kCells, "nearest must be u8[multipliers, 512]");
  const int64_t groups = (task.k + group - 1) / group;
  need(has(multipliers, task.rows, groups), "multipliers must be i8[N, ceil(K / group)]");
  int8_t* codes = levels.data();
  const int8_t* m = multipliers.data();
  for (int64_t i = 0; i < task.rows * groups; ++i)
    need(m[i] >= lowest && m[i] - lowest < static_cast<int>(nearest.shape(0)), "a multiplier that the grid does not have");
  const uint8_t* table = nearest.data();
  nb::gil_scoped_release release;
  over_rows(task, 16, threads, [=](const Task& of, int64_t n, float*) {
    for (int64_t i = 0; i < of.k; ++i) {
      const uint8_t* cells = table + (m[n * groups + i / of.group] - lowest) * kCells;
      codes[n * of.k + i] = static_cast<int8_t>(cells[2 * codes[n * of.k + i] + 256] + first);
    }
  }, 1);
}

void feedback(Matrix weights, Values values, int lowest, int64_t group, Codes multipliers, Scales scale, Whole order,
              Matrix factor, Codes levels, int threads) {
  auto task = coded<Feedback>(weights, values, lowest, 1, false, group, multipliers, scale, &levels);
  limited(task);
  task.stride = align_up(task.k, 16);
  need(static_cast<int64_t>(order.shape(0)) == task.k, "order must be i32[K]");
  for (int64_t i = 0; i < task.k; ++i) need(order.data()[i] >= 0 && order.data()[i] < task.k, "order must be of columns");
  need(has(factor, task.k, task.stride), "factor must be f32[K, K up to a multiple of 16]");
  task.order = order.data(), task.factor = factor.data();
  nb::gil_scoped_release release;
  over_rows(task, task.scratch(), threads,
            pick(&portable::feedback_rows, &avx2::feedback_rows, &avx512vnni::feedback_rows), kTile);
}

void descend(Matrix weights, Values values, int lowest, double reach, bool bf16, int64_t group, Codes multipliers,
             Scales scale, Codes levels, Matrix hessian, Cube inverse, Cube factor, Matrix pivots, Vector factors,
             Whole offsets, int64_t sweeps, bool fed, int threads) {
  auto task = coded<Descent>(weights, values, lowest, reach, bf16, group, multipliers, scale, &levels);
  limited(task);
  task.stride = align_up(task.k, 16);
  task.block = static_cast<int64_t>(pivots.shape(1));
  need(has(hessian, task.k, task.stride), "hessian must be f32[K, K up to a multiple of 16]");
  need(task.block > 0 && (task.block == group || group >= task.k), "blocks must be groups, or of a channel without groups");
  need(static_cast<int64_t>(pivots.shape(0)) == task.blocks(), "pivots must be f32[blocks, block]");
  for (const Cube* each : {&inverse, &factor})
    need(has(*each, task.blocks(), task.block) && static_cast<int64_t>(each->shape(2)) == task.block,
         "inverse and factor must be f32[blocks, block, block]");
  need(factors.shape(0) == offsets.shape(0), "a factor and an offset per trial");
  task.hessian = hessian.data(), task.inverse = inverse.data(), task.factor = factor.data(), task.pivots = pivots.data();
  task.factors = factors.data(), task.offsets = offsets.data(), task.trials = static_cast<int64_t>(factors.shape(0));
  task.sweeps = sweeps, task.fed = fed;
  nb::gil_scoped_release release;
  over_rows(task, task.scratch(), threads,
            pick(&portable::descent_rows, &avx2::descent_rows, &avx512vnni::descent_rows), kTile);
}

template <class Work>
void over(int64_t count, int threads, Work work) {
  std::atomic<int64_t> next{0};
  const auto run = [&] {
    for (int64_t i; (i = next.fetch_add(1)) < count;) work(i);
  };
  std::vector<std::jthread> pool;
  for (int i = 1; i < threads; ++i) pool.emplace_back(run);
  run();
}

// The lower factor of f64[k, stride] in place, as far as it is positive.
bool cholesky(Doubles matrix, int threads) {
  const int64_t k = static_cast<int64_t>(matrix.shape(0)), stride = static_cast<int64_t>(matrix.shape(1));
  need(stride == align_up(k, 16), "matrix must be f64[K, K up to a multiple of 16]");
  double* a = matrix.data();
  nb::gil_scoped_release release;
  const auto diagonal = pick(&portable::cholesky_diagonal, &avx2::cholesky_diagonal, &avx512vnni::cholesky_diagonal);
  const auto row = pick(&portable::cholesky_row, &avx2::cholesky_row, &avx512vnni::cholesky_row);
  const auto rest = pick(&portable::cholesky_rest, &avx2::cholesky_rest, &avx512vnni::cholesky_rest);
  std::vector<double> column(static_cast<size_t>(kBlock * stride));
  for (int64_t first = 0; first < k; first += kBlock) {
    const int64_t count = std::min(kBlock, k - first), begin = first + count;
    if (!diagonal(a, stride, first, count)) return false;
    over((k - begin + 63) / 64, threads, [&](int64_t part) {
      for (int64_t i = begin + part * 64; i < std::min(k, begin + (part + 1) * 64); ++i)
        row(a, stride, first, count, i, column.data());
    });
    over((k - begin + 31) / 32, threads,
         [&](int64_t part) { rest(a, stride, first, count, k, begin + part * 32, column.data()); });
  }
  return true;
}

}  // namespace

void bind_searches(nb::module_& m) {
  m.def("search_steps", &search_steps, nb::arg("weights"), nb::arg("importance"), nb::arg("values"), nb::arg("lowest"),
        nb::arg("reach"), nb::arg("bf16"), nb::arg("group"), nb::arg("factors"), nb::arg("clips"),
        nb::arg("multipliers").noconvert(), nb::arg("scale").noconvert(), nb::arg("threads"));
  m.def("nearest_levels", &nearest_levels, nb::arg("weights"), nb::arg("values"), nb::arg("lowest"), nb::arg("group"),
        nb::arg("multipliers").noconvert(), nb::arg("scale").noconvert(), nb::arg("levels").noconvert(), nb::arg("threads"));
  m.def("level_codes", &level_codes, nb::arg("levels").noconvert(), nb::arg("nearest"), nb::arg("lowest"), nb::arg("first"),
        nb::arg("group"), nb::arg("multipliers").noconvert(), nb::arg("threads"));
  m.def("feedback", &feedback, nb::arg("weights"), nb::arg("values"), nb::arg("lowest"), nb::arg("group"),
        nb::arg("multipliers").noconvert(), nb::arg("scale").noconvert(), nb::arg("order"), nb::arg("factor"),
        nb::arg("levels").noconvert(), nb::arg("threads"));
  m.def("descend", &descend, nb::arg("weights"), nb::arg("values"), nb::arg("lowest"), nb::arg("reach"), nb::arg("bf16"),
        nb::arg("group"), nb::arg("multipliers").noconvert(), nb::arg("scale").noconvert(), nb::arg("levels").noconvert(),
        nb::arg("hessian"), nb::arg("inverse"), nb::arg("factor"), nb::arg("pivots"), nb::arg("factors"),
        nb::arg("offsets"), nb::arg("sweeps"), nb::arg("fed"), nb::arg("threads"));
  m.def("cholesky", &cholesky, nb::arg("matrix").noconvert(), nb::arg("threads"));
}

}  // namespace hearth
