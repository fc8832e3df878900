// GPTQ's loop over the columns of a tile of rows; compiler/quantize/gptq.py defines every step.
#include "quantise/levels.h"
#include "quantise/products.h"

namespace hearth::HEARTH_ISA {

void feedback_rows(const Feedback& task, int64_t first, float* scratch) {
  const int64_t rows = task.rows - first < kTile ? task.rows - first : kTile, groups = task.groups();
  const int64_t stride = task.stride, tile = align_up(rows, kProductRows);
  float *wanted = scratch, *errors = scratch + kTile * stride;
  float twice[kTile] = {}, scale[kTile] = {};
  for (int64_t i = 0; i < tile * stride; ++i) wanted[i] = 0.0f;
  for (int64_t i = 0; i < tile * kBlock; ++i) errors[i] = 0.0f;
  for (int64_t r = 0; r < rows; ++r) {
    scale[r] = task.scale[first + r];
    twice[r] = half_steps(scale[r]);
    for (int64_t i = 0; i < task.k; ++i) wanted[r * stride + i] = task.weights[(first + r) * task.k + task.order[i]];
  }
  for (int64_t begin = 0; begin < task.k; begin += kBlock) {
    const int64_t end = begin + kBlock < task.k ? begin + kBlock : task.k, padded = align_up(end, 16);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = task.order[i], group = column / task.group;
      const float* factor = task.factor + i * stride;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (first + r) * task.k + column;
        const int8_t level = task.grid.of(task.multipliers[(first + r) * groups + group])[cell(wanted[r * stride + i], twice[r])];
        const float error = task.weights[at] - static_cast<float>(level) * scale[r];
        task.levels[at] = level;
        errors[r * kBlock + i - begin] = error;
        for (int64_t j = begin + (i - begin) / 16 * 16; j < padded; j += 16)  // the factor is 0 up to i
          store16(wanted + r * stride + j, load16(wanted + r * stride + j) + load16(factor + j) * error);
      }
    }
    if (end < task.k)
      add_product(tile, errors, kBlock, end - begin, task.factor + begin * stride + end, stride, wanted + end, stride,
                  stride - end);
  }
}

}  // namespace hearth::HEARTH_ISA
