// What a kernel is: one function per (contract, variant, ISA), stateless, called by every thread of a run.
//
// A kernel allocates nothing, keeps nothing, and computes the share of its work that belongs to
// (thread, threads); the shares of different threads never overlap in what they write. Whatever the
// split, the bits of the result are those of docs/arithmetic.md.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hearth {

// Mirrors schemas/commands.py; a test compares the two.
enum Opcode : int {
  kEmbed = 1, kRmsNorm, kRmsNormQuantize, kQuantize, kLinear, kAdd, kMul, kActivate, kSwiGLU, kRope,
  kKvWrite, kAttention, kLastRows, kLayerNorm, kLayerNormQuantize, kEmbedPositions, kPool, kL2Normalize,
  kQuantizeStatic, kRmsNormQuantizeStatic, kLayerNormQuantizeStatic, kHadamard, kHeadNorm,
  kGegluTanh, kScale, kSoftCap, kAttentionCapped,
};
enum Layout : int { kF32B16 = 0, kF16B16 = 1, kQ8B16 = 2, kQ4B16 = 3, kG4B16 = 4, kG8B16 = 5,
                    kT2B16 = 6, kT3B16, kT4B16, kT5B16, kT6B16, kLayouts };
enum KvScheme : int { kKvF32 = 0, kKvF16 = 1, kKvInt8 = 2, kKvInt8Static = 3 };
enum Activation : int {
  kNone = 0, kSilu, kSwiGLUActivation, kGelu, kGeluTanh, kRelu, kTanh, kSigmoid,
  kGegluTanhActivation, kActivations,
};
enum Pooling : int { kPoolMean = 0, kPoolFirst, kPoolLast, kPoolMax, kPoolings };
enum Isa : int { kPortable = 0, kAvx2 = 1, kAvx512Vnni = 2, kAmx = 3, kIsas };

constexpr int kMaxOperands = 8, kMaxInts = 8, kMaxFloats = 6;

// A command with its operands resolved to addresses. The order of operands, ints and floats is the
// contract's; an absent optional operand is null.
struct Command {
  int opcode;
  void* operand[kMaxOperands];
  int64_t stride[kMaxOperands];  // bytes between rows
  int64_t ints[kMaxInts];
  float floats[kMaxFloats];
};

// What an adapter adds to a block of 16 channels of a linear: `count` products of u[first ..] with 16 values each.
struct DeltaBlock {
  const void* values;  // [count][16], behind those of int8 f32[16] of scales
  int32_t first, count;
};
enum ValueForm : int { kInt8Values = 0, kF16Values, kF32Values, kValueForms };
inline int64_t delta_nbytes(int form, int64_t count) {
  return form == kInt8Values ? count * 16 + 64 : form == kF16Values ? count * 32 : count * 64;
}

// What an adapter adds to one row of a linear; without blocks nothing.
struct Delta {
  const DeltaBlock* blocks;  // in the order of the packed weight's
  const float* u;            // A x of the row
  int form;
};

// What is known only when an entry runs.
struct Call {
  int64_t rows;        // rows of this command
  int64_t tokens;      // T of the entry's run (last_rows reads row T - R + i)
  int64_t position;    // absolute position of the first token
  int thread, threads;
  std::byte* scratch;  // this thread's own, 64-byte aligned, at least scratch_nbytes() large
  const Delta* deltas = nullptr;  // linear only: of each row; null where none has an adapter
  bool again = false;  // linear only: another piece of this thread's last call, whose scratch is as it left it
};

using KernelFn = void (*)(const Command&, const Call&);
// Scratch bytes one thread needs for this command with at most max_rows rows.
using ScratchFn = size_t (*)(const Command&, int64_t max_rows);

// One row of the kernel table. `variant` is what, beside the opcode, the archive fixed: the weight layout of
// embed and linear, the KV scheme of kv_write and attention, else 0. `exact`: equal bits to every other row of
// this (opcode, variant) and to the numpy reference.
struct Kernel {
  const char* name;
  int opcode, variant;
  int x_is_q8;  // linear only: 1 for q8 activations, 0 for f32 (else 0)
  Isa isa;
  bool exact;
  KernelFn run;
  ScratchFn scratch;
};

// The function of the gate, where an activation is of two rows, gate and up; kNone of the others.
[[gnu::always_inline]] constexpr int gate_of(int64_t activation) {
  return activation == kSwiGLUActivation ? kSilu : activation == kGegluTanhActivation ? kGeluTanh : kNone;
}

// Bits of a code of t2b16 .. t6b16; 0 of the other layouts.
constexpr int table_bits(int64_t layout) { return layout >= kT2B16 ? int(layout) - kT2B16 + 2 : 0; }
constexpr int64_t kTableNbytes = 64;  // of the levels, before the first block

// Always inlined: this header is compiled for several ISAs, and no copy made for one may serve another.
[[gnu::always_inline]] inline int64_t align_up(int64_t value, int64_t to) {
  return (value + to - 1) / to * to;
}

// The units [begin, end) of `total` that belong to one thread.
struct Share {
  int64_t begin, end;
  [[gnu::always_inline]] Share(int64_t total, const Call& call)
      : begin(total * call.thread / call.threads), end(total * (call.thread + 1) / call.threads) {}
};

// Where the parts of a quantised activation row lie (docs/layouts.md).
struct Q8Row {
  int64_t columns;  // K up to a multiple of 128
  [[gnu::always_inline]] explicit Q8Row(int64_t k) : columns(align_up(k, 128)) {}
  [[gnu::always_inline]] int64_t sums() const { return columns; }
  [[gnu::always_inline]] int64_t scale() const { return columns + columns / 8; }
  [[gnu::always_inline]] int64_t stride() const { return align_up(columns + columns / 8 + 4, 64); }
};

}  // namespace hearth
