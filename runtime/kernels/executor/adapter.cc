// Binding: every part is checked against the adapter's data, so that none can make a kernel leave it.
#include "executor/adapter.h"

#include <algorithm>
#include <cstring>

#include "attributes.h"
#include "contracts.h"
#include "executor/refuse.h"

namespace hearth {
namespace {

constexpr int kLayoutOfForm[kValueForms] = {kQ8B16, kF16B16, kF32B16};

// f32 of the codes of q8 rows: code times scale.
void decode(const AdapterRows& rows, int64_t k, float* to, int64_t to_stride) {
  const Q8Row row(k);
  for (int64_t r = 0; r < rows.rows; ++r) {
    const auto* codes = reinterpret_cast<const int8_t*>(rows.x + r * rows.x_stride);
    float scale;
    std::memcpy(&scale, codes + row.scale(), 4);
    for (int64_t i = 0; i < k; ++i) to[r * to_stride + i] = float(codes[i]) * scale;
  }
}

}  // namespace

Adapter::Adapter(std::span<const std::byte> data, int form, std::span<const AdapterPart> parts,
                 std::span<const Site> sites, int64_t max_rows, Isa isa)
    : data_(data), form_(form), max_rows_(max_rows), isa_(isa), linears_(sites.size()) {
  require(form >= 0 && form < kValueForms, "no such form of values");
  require(reinterpret_cast<uintptr_t>(data.data()) % 64 == 0, "the data does not start on a 64-byte boundary");
  for (const AdapterPart& part : parts) {
    bool found = false;
    for (size_t i = 0; i < sites.size(); ++i)
      if (sites[i].weight == part.weight) {
        require(!linears_[i].kernel, "two parts are of the same weight");
        bind(linears_[i], sites[i], part);
        found = true;
      }
    if (!found) refuse("no linear has its weight at " + number(part.weight));
  }
}

const std::byte* Adapter::at(int64_t offset, int64_t nbytes, int64_t alignment) const {
  const auto size = int64_t(data_.size());
  if (offset < 0 || offset > size || nbytes < 0 || nbytes > size - offset || offset % alignment)
    refuse(number(nbytes) + " bytes at " + number(offset) + " of data of " + number(size));
  return data_.data() + offset;
}

void Adapter::bind(AdapterLinear& linear, const Site& site, const AdapterPart& part) {
  require(part.ranks >= 1 && part.ranks <= kMostRanks, "ranks are out of range");
  require(part.layout == kLayoutOfForm[form_], "A is not in the layout of its form");
  Command& product = linear.product;
  product.opcode = kLinear;
  const int64_t ints[] = {part.ranks, site.k, part.layout, 0, kNone};
  std::ranges::copy(ints, product.ints);
  const Contract& contract = *find_contract(kLinear);
  const Extent a = operand_extent(contract, product, 1, 1, 1, false);
  product.operand[1] = const_cast<std::byte*>(at(part.a, a.nbytes, a.alignment));
  if (part.bias >= 0) product.operand[2] = const_cast<std::byte*>(at(part.bias, part.ranks * 4, 4));
  read_blocks(linear, site, part);
  linear.decodes = site.x_is_q8 && form_ != kInt8Values;
  linear.kernel = choose_kernel(kLinear, int(part.layout), site.x_is_q8 && !linear.decodes, isa_);
  require(linear.kernel, "no kernel for A");
  ranks = std::max(ranks, align_up(part.ranks, 16));
  if (linear.decodes) columns = std::max(columns, align_up(site.k, 16));
  scratch = std::max(scratch, linear.kernel->scratch(product, max_rows_));
}

void Adapter::read_blocks(AdapterLinear& linear, const Site& site, const AdapterPart& part) const {
  const auto* table = reinterpret_cast<const int32_t*>(at(part.b, site.blocks * 8, 64));
  int64_t next = part.b + align_up(site.blocks * 8, 64);
  linear.blocks.reserve(size_t(site.blocks));
  for (int64_t i = 0; i < site.blocks; ++i) {
    const int64_t first = table[2 * i], count = table[2 * i + 1];
    if (first < 0 || count < 0 || first + count > part.ranks)
      refuse("ranks " + number(first) + ".." + number(first + count) + " of " + number(part.ranks));
    const int64_t nbytes = count ? delta_nbytes(form_, count) : 0;
    linear.blocks.push_back({count ? at(next, nbytes, 16) : nullptr, int32_t(first), int32_t(count)});
    next += nbytes;
  }
}

void AdapterMemory::fit(const Adapter& adapter) {
  if (pages_ && adapter.ranks <= ranks_ && adapter.columns <= columns_ && adapter.scratch <= scratch_) return;
  ranks_ = std::max(ranks_, adapter.ranks), columns_ = std::max(columns_, adapter.columns);
  scratch_ = std::max(scratch_, adapter.scratch);
  pages_.emplace(size_t(shared_nbytes() + threads_ * stride()), true);
}

void AdapterMemory::multiply(const AdapterLinear& linear, const AdapterRows& all, int thread) const {
  Command product = linear.product;
  auto* x = reinterpret_cast<float*>(of(thread) + x_at());
  const auto ints = ints_of<LinearInts>(product);
  const int64_t k = ints.k, ranks = ints.n, most = linear.decodes ? kFewRows : all.rows;
  for (int64_t row = 0; row < all.rows; row += most) {
    AdapterRows rows = all;
    rows.rows = std::min(most, all.rows - row);
    rows.x += row * all.x_stride, rows.u += row * all.u_stride;
    if (linear.decodes) {
      decode(rows, k, x, columns_);
      rows.x = reinterpret_cast<const std::byte*>(x), rows.x_stride = columns_ * 4;
    }
    product.operand[0] = const_cast<std::byte*>(rows.x), product.stride[0] = rows.x_stride;
    product.operand[4] = rows.u, product.stride[4] = rows.u_stride * 4;
    linear.kernel->run(product, {rows.rows, rows.rows, 0, 0, 1, of(thread) + scratch_at()});
    if (rows.scale == 1.0f) continue;
    for (int64_t r = 0; r < rows.rows; ++r)
      for (int64_t i = 0; i < ranks; ++i) rows.u[r * rows.u_stride + i] *= rows.scale;
  }
}

}  // namespace hearth
