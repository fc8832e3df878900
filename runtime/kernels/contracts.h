// What a command means to the executor: the mirror of schemas/commands.py, and the bytes each operand spans.
#pragma once

#include <span>
#include <string_view>

#include "kernel.h"

namespace hearth {

enum Role : int { kIn, kOut, kWeight, kStateRead, kStateWrite };
enum Kind : int { kTokens, kF32, kQ8, kPacked, kVector, kTable, kKv, kKvScale };

struct OperandSpec {
  std::string_view name;
  Role role;
  Kind kind;
  bool optional = false;
  bool or_q8 = false;  // f32 or q8 rows
  bool or_vector = false;  // f32 rows, or a vector of the weights with stride 0
  bool all_rows = false;   // has the T rows of the run, however many the command has
};

struct Contract {
  int opcode;
  std::string_view name;
  std::span<const OperandSpec> operands;
  std::span<const std::string_view> ints, floats;
  bool by_segment = false;  // what a row gives depends on its position or on its neighbours
  std::span<const std::string_view> fixed{};  // floats that follow those where the scheme of the cache is kKvInt8Static
};

std::string_view role_name(Role role);
std::string_view kind_name(Kind kind);

std::span<const Contract> contracts();
const Contract* find_contract(int opcode);

// How many floats a command of these integers has.
size_t float_count(const Contract& contract, std::span<const int64_t> ints);

// What, beside the opcode, chooses a kernel: the layout of a packed operand, the scheme of the cache, else 0.
int variant_of(const Command& command);

// Throws std::invalid_argument where attributes make no sense or a needed operand is absent. Of the operands
// only null or not is read.
void check_attributes(const Contract& contract, const Command& command);

// How far an operand reaches from its first byte, for `rows` rows (`tokens` in the entry's run).
struct Extent {
  int64_t nbytes;
  int64_t alignment;
};
Extent operand_extent(const Contract& contract, const Command& command, int operand, int64_t rows,
                      int64_t tokens, bool x_is_q8);

// The packed operand as what one thread computes whole: a block of 16 channels, or a gate and an up block; without scales.
struct PackedUnits {
  int64_t begin;  // of the first in the operand's bytes
  int64_t count, nbytes;
};
PackedUnits packed_units(const Command& command);

// Positions that the command's caches and tables hold, a table of learned positions too; -1 where it names none.
int64_t context_of(const Command& command);

}  // namespace hearth
