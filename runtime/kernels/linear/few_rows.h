// Integer products of few rows on AVX-512 VNNI: one pass over the packed weight, at the speed of memory. What is read is
// multiplied with kFewRows rows at once; with int4 codes up to kMostRows, kFewRows after kFewRows.
#pragma once

#include "linear/parts.h"

namespace hearth::HEARTH_ISA {

constexpr int64_t kFewRows = 8;
constexpr int64_t kMostRows = 20;  // beyond, expanding codes once for all rows costs less than doing it for each 8

// The share of call.thread, for 1 .. kMostRows rows.
void few_rows_q4(const Linear& l, const Call& call);
// The same, for 1 .. kFewRows rows.
void few_rows_q8(const Linear& l, const Call& call);
template <int kBits>
void few_rows_table(const Linear& l, const Call& call);
size_t few_rows_scratch(int64_t k, int64_t rows);

}  // namespace hearth::HEARTH_ISA
