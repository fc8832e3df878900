// The table of contracts and the sizes that follow from it (docs/layouts.md).
#include "contracts.h"

#include <stdexcept>
#include <string>

namespace hearth {
namespace {

using Names = std::string_view;
constexpr std::string_view kRoles[] = {"in", "out", "weight", "state_read", "state_write"};
constexpr std::string_view kKinds[] = {"tokens", "f32", "q8", "packed", "vector", "table", "kv", "kv_scale"};

constexpr OperandSpec kEmbedOps[] = {{"tokens", kIn, kTokens}, {"table", kWeight, kPacked}, {"y", kOut, kF32}};
constexpr OperandSpec kNormOps[] = {{"x", kIn, kF32}, {"gain", kWeight, kVector, true}, {"y", kOut, kF32}};
constexpr OperandSpec kNormQ8Ops[] = {{"x", kIn, kF32}, {"gain", kWeight, kVector, true}, {"y", kOut, kQ8}};
constexpr OperandSpec kQuantizeOps[] = {{"x", kIn, kF32}, {"y", kOut, kQ8}};
constexpr OperandSpec kLinearOps[] = {{"x", kIn, kF32, false, true},
                                      {"w", kWeight, kPacked},
                                      {"bias", kWeight, kVector, true},
                                      {"residual", kIn, kF32, true},
                                      {"y", kOut, kF32}};
constexpr OperandSpec kAddOps[] = {{"a", kIn, kF32}, {"b", kIn, kF32, false, false, true}, {"y", kOut, kF32}};
constexpr OperandSpec kBinaryOps[] = {{"a", kIn, kF32}, {"b", kIn, kF32}, {"y", kOut, kF32}};
constexpr OperandSpec kUnaryOps[] = {{"x", kIn, kF32}, {"y", kOut, kF32}};
constexpr OperandSpec kHadamardOps[] = {{"x", kIn, kF32}, {"signs", kWeight, kVector, true}, {"y", kOut, kF32}};
constexpr OperandSpec kGatherOps[] = {{"x", kIn, kF32, false, false, false, true}, {"y", kOut, kF32}};
constexpr OperandSpec kLayerNormOps[] = {
    {"x", kIn, kF32}, {"gain", kWeight, kVector, true}, {"bias", kWeight, kVector, true}, {"y", kOut, kF32}};
constexpr OperandSpec kLayerNormQ8Ops[] = {
    {"x", kIn, kF32}, {"gain", kWeight, kVector, true}, {"bias", kWeight, kVector, true}, {"y", kOut, kQ8}};
constexpr OperandSpec kEmbedPositionsOps[] = {{"table", kWeight, kPacked}, {"y", kOut, kF32}};
constexpr OperandSpec kSwiGLUOps[] = {{"gate", kIn, kF32}, {"up", kIn, kF32}, {"y", kOut, kF32}};
constexpr OperandSpec kRopeOps[] = {
    {"x", kIn, kF32}, {"cos", kWeight, kTable}, {"sin", kWeight, kTable}, {"y", kOut, kF32}};
constexpr OperandSpec kKvWriteOps[] = {{"x", kIn, kF32},
                                       {"cos", kWeight, kTable, true},
                                       {"sin", kWeight, kTable, true},
                                       {"cache", kStateWrite, kKv},
                                       {"scales", kStateWrite, kKvScale, true}};
constexpr OperandSpec kAttentionOps[] = {{"q", kIn, kF32},
                                         {"cos", kWeight, kTable, true},
                                         {"sin", kWeight, kTable, true},
                                         {"k", kStateRead, kKv},
                                         {"k_scales", kStateRead, kKvScale, true},
                                         {"v", kStateRead, kKv},
                                         {"v_scales", kStateRead, kKvScale, true},
                                         {"y", kOut, kF32}};

constexpr Names kTableInts[] = {"N", "K", "layout", "group"};
constexpr Names kLinearInts[] = {"N", "K", "layout", "group", "activation"};
constexpr Names kK[] = {"K"}, kN[] = {"N"}, kEps[] = {"eps"}, kScale[] = {"scale"};
constexpr Names kHeadNormInts[] = {"heads", "head_dim"};
constexpr Names kRopeInts[] = {"heads", "head_dim", "rotary_dim"};
constexpr Names kKvWriteInts[] = {"heads", "head_dim", "rotary_dim", "context", "scheme", "kind"};
constexpr Names kAttentionInts[] = {"heads",   "kv_heads", "head_dim", "rotary_dim",
                                    "context", "scheme",   "window",   "causal"};
constexpr Names kCodes[] = {"scale", "zero"}, kNormCodes[] = {"eps", "scale", "zero"};
constexpr Names kHalvesCodes[] = {"k_scale", "k_zero", "v_scale", "v_zero"};
constexpr Names kActivateInts[] = {"N", "activation"}, kPoolInts[] = {"N", "kind"};
constexpr Names kHadamardInts[] = {"K", "q", "r", "s"};

constexpr Contract kContracts[] = {
    {kEmbed, "embed", kEmbedOps, kTableInts, {}},
    {kRmsNorm, "rms_norm", kNormOps, kK, kEps},
    {kRmsNormQuantize, "rms_norm_quantize", kNormQ8Ops, kK, kEps},
    {kQuantize, "quantize", kQuantizeOps, kK, {}},
    {kLinear, "linear", kLinearOps, kLinearInts, {}},
    {kAdd, "add", kAddOps, kN, {}},
    {kMul, "mul", kBinaryOps, kN, {}},
    {kActivate, "activate", kUnaryOps, kActivateInts, {}},
    {kSwiGLU, "swiglu", kSwiGLUOps, kN, {}},
    {kRope, "rope", kRopeOps, kRopeInts, {}, true},
    {kKvWrite, "kv_write", kKvWriteOps, kKvWriteInts, {}, true, kCodes},
    {kAttention, "attention", kAttentionOps, kAttentionInts, kScale, true, kHalvesCodes},
    {kLastRows, "last_rows", kGatherOps, kN, {}, true},
    {kLayerNorm, "layer_norm", kLayerNormOps, kK, kEps},
    {kLayerNormQuantize, "layer_norm_quantize", kLayerNormQ8Ops, kK, kEps},
    {kEmbedPositions, "embed_positions", kEmbedPositionsOps, kTableInts, {}, true},
    {kPool, "pool", kGatherOps, kPoolInts, {}, true},
    {kL2Normalize, "l2_normalize", kUnaryOps, kN, kEps},
    {kQuantizeStatic, "quantize_static", kQuantizeOps, kK, kCodes},
    {kRmsNormQuantizeStatic, "rms_norm_quantize_static", kNormQ8Ops, kK, kNormCodes},
    {kLayerNormQuantizeStatic, "layer_norm_quantize_static", kLayerNormQ8Ops, kK, kNormCodes},
    {kHadamard, "hadamard", kHadamardOps, kHadamardInts, {}},
    {kHeadNorm, "head_norm", kNormOps, kHeadNormInts, kEps},
};

// Signs of the dense factors of a hadamard.
int64_t signs_of(const int64_t* i) { return (i[1] > 1 ? i[1] * i[1] : 0) + (i[2] > 1 ? i[2] * i[2] : 0); }

// The integer attributes of a command, by the names that the layouts use.
struct Sizes {
  int64_t columns_in = 0, columns_out = 0;  // of the f32 or q8 rows read and written
  int64_t vector = 0, table = 0;            // values of a vector; values of one row of a table
  int64_t heads = 0, head_dim = 0, context = 0;
};

Sizes sizes_of(const Command& c) {
  const int64_t* i = c.ints;
  switch (c.opcode) {
    case kEmbed: return {.columns_out = i[1]};
    case kEmbedPositions: return {.columns_out = i[1], .context = i[0]};
    case kLinear: {
      const int64_t out = i[4] == kSwiGLUActivation ? i[0] / 2 : i[0];
      return {.columns_in = i[1], .columns_out = out, .vector = i[0]};
    }
    case kRope: return {.columns_in = i[0] * i[1], .columns_out = i[0] * i[1], .table = i[2] / 2};
    case kKvWrite:
      return {.columns_in = i[0] * i[1], .table = i[2] / 2, .heads = i[0], .head_dim = i[1], .context = i[3]};
    case kAttention:
      return {.columns_in = i[0] * i[2], .columns_out = i[0] * i[2], .table = i[3] / 2,
              .heads = i[1], .head_dim = i[2], .context = i[4]};
    case kHadamard: return {.columns_in = i[0], .columns_out = i[0], .vector = signs_of(i)};
    case kHeadNorm: return {.columns_in = i[0] * i[1], .columns_out = i[0] * i[1], .vector = i[1]};
    default: return {.columns_in = i[0], .columns_out = i[0], .vector = i[0]};
  }
}

// A block of 16 channels, without its scales.
int64_t block_nbytes(int64_t k, int64_t layout, int64_t group) {
  switch (layout) {
    case kF32B16: return k * 64;
    case kF16B16: return k * 32;
    case kQ8B16: return align_up(k, 64) * 16;
    case kG4B16:
    case kG8B16: return align_up(k, 4 * group) / (4 * group) * 320 + align_up(k, 16) * (layout == kG4B16 ? 8 : 16);
    case kQ4B16: {
      const int64_t padded = align_up(k, group > 64 ? group : 64);
      return align_up(padded / group * 16, 64) + padded * 8;
    }
    default: return align_up(k, group) / group * 16 + align_up(k, 32) * 2 * table_bits(layout);
  }
}

bool paired(const Command& c) { return c.opcode == kLinear && c.ints[4] == kSwiGLUActivation; }

int64_t packed_nbytes(const Command& c) {
  const bool scaled = c.ints[2] == kQ8B16 || c.ints[2] == kQ4B16;
  const int64_t scales = scaled ? 64 : table_bits(c.ints[2]) ? 32 : 0;  // bytes of a block
  const PackedUnits units = packed_units(c);
  return units.begin + units.count * (units.nbytes + scales * (paired(c) ? 2 : 1));
}

int64_t cache_nbytes(const Sizes& s, int64_t scheme, bool is_k) {
  const int64_t values = s.heads * s.context * s.head_dim;
  switch (scheme) {
    case kKvF32: return values * 4;
    case kKvF16: return values * 2;
    default: return is_k ? s.heads * align_up(s.context, 16) * align_up(s.head_dim, 4) : values;
  }
}

constexpr int64_t kMostSigns = 1024;

int64_t scheme_of(const Command& c) { return c.opcode == kKvWrite ? c.ints[4] : c.ints[5]; }

[[noreturn]] void refuse(const Contract& contract, const std::string& what) {
  throw std::invalid_argument(std::string(contract.name) + ": " + what);
}

void require(const Contract& contract, bool holds, const char* what) {
  if (!holds) refuse(contract, what);
}

void check_weight(const Contract& contract, const int64_t* i, bool paired) {
  require(contract, i[2] >= kF32B16 && i[2] < kLayouts, "unknown layout");
  const bool integer = i[2] == kQ8B16 || i[2] == kQ4B16 || table_bits(i[2]);
  if (i[2] == kQ4B16 || table_bits(i[2]))
    require(contract, i[3] == 32 || i[3] == 64 || i[3] == 128, "group is not 32, 64 or 128");
  if (i[2] == kG4B16 || i[2] == kG8B16)
    require(contract, i[3] > 0 && i[3] % 16 == 0 && i[3] < i[1] + 16, "group is not a multiple of 16 up to K");
  if (integer) require(contract, i[1] <= 131072, "K is above 131072");
  if (paired) require(contract, i[0] % 2 == 0, "swiglu needs an even N");
}

// K is blocks of q * r * s columns, q and r orders of dense factors, s a power of two.
void check_factors(const Contract& contract, const Command& c) {
  const int64_t k = c.ints[0], q = c.ints[1], r = c.ints[2], s = c.ints[3];
  for (const int64_t order : {q, r})
    require(contract, order == 1 || (order > 0 && order % 4 == 0 && order <= kMostSigns), "a factor is no multiple of 4 up to 1024");
  require(contract, s > 0 && (s & (s - 1)) == 0, "s is no power of two");
  require(contract, k % (q * r * s) == 0, "the factors do not divide K");
  require(contract, q * r == 1 || c.operand[1], "dense factors need signs");
}

void check_heads(const Contract& contract, int64_t heads, int64_t head_dim, int64_t rotary_dim) {
  require(contract, heads > 0 && heads <= 65536 && head_dim > 0 && head_dim <= 4096, "heads or head_dim out of range");
  require(contract, rotary_dim % 2 == 0 && rotary_dim <= head_dim, "rotary_dim is odd or above head_dim");
}

}  // namespace

std::string_view role_name(Role role) { return kRoles[role]; }
std::string_view kind_name(Kind kind) { return kKinds[kind]; }

std::span<const Contract> contracts() { return kContracts; }

const Contract* find_contract(int opcode) {
  for (const Contract& contract : kContracts)
    if (contract.opcode == opcode) return &contract;
  return nullptr;
}

size_t float_count(const Contract& contract, std::span<const int64_t> ints) {
  const size_t scheme = contract.opcode == kKvWrite ? 4 : 5;
  const bool fixed = !contract.fixed.empty() && ints.size() > scheme && ints[scheme] == kKvInt8Static;
  return contract.floats.size() + (fixed ? contract.fixed.size() : 0);
}

int variant_of(const Command& c) {
  switch (c.opcode) {
    case kEmbed:
    case kEmbedPositions:
    case kLinear: return int(c.ints[2]);
    case kKvWrite:
    case kAttention: return int(scheme_of(c));
    default: return 0;
  }
}

void check_attributes(const Contract& contract, const Command& c) {
  constexpr int64_t kMost = int64_t{1} << 28;  // with check_heads: keeps every product of sizes within 64 bits
  const int64_t* i = c.ints;
  for (size_t n = 0; n < contract.ints.size(); ++n)
    if (i[n] < 0 || i[n] >= kMost) refuse(contract, "attribute " + std::string(contract.ints[n]) + " out of range");
  for (size_t n = 0; n < contract.operands.size(); ++n)
    if (!contract.operands[n].optional && !c.operand[n])
      refuse(contract, "operand " + std::string(contract.operands[n].name) + " is missing");
  const Sizes s = sizes_of(c);
  require(contract, s.columns_in + s.columns_out > 0, "no columns");
  switch (c.opcode) {
    case kEmbed:
    case kEmbedPositions: check_weight(contract, i, false); break;
    case kActivate:
      require(contract, i[1] != kNone && i[1] != kSwiGLUActivation && i[1] < kActivations, "unknown activation");
      break;
    case kHadamard: check_factors(contract, c); break;
    case kPool: require(contract, i[1] < kPoolings, "unknown pooling"); break;
    case kLinear:
      require(contract, i[4] < kActivations, "unknown activation");
      check_weight(contract, i, i[4] == kSwiGLUActivation);
      break;
    case kRope: check_heads(contract, i[0], i[1], i[2]); break;
    case kHeadNorm: check_heads(contract, i[0], i[1], 0); break;
    case kAttention:
      require(contract, i[1] > 0 && i[0] % i[1] == 0, "heads is not a multiple of kv_heads");
      require(contract, i[7] <= 1, "causal is neither 0 nor 1");
      require(contract, i[7] == 1 || i[6] == 0, "a window needs causal attention");
      [[fallthrough]];
    case kKvWrite: {
      const bool write = c.opcode == kKvWrite;
      require(contract, s.context > 0, "no context");
      require(contract, scheme_of(c) <= kKvInt8Static, "unknown cache scheme");
      check_heads(contract, i[0], s.head_dim, write ? i[2] : i[3]);
      require(contract, !c.operand[1] == !c.operand[2], "cos without sin");
      const bool scales = c.operand[4] && (write || c.operand[6]), some = c.operand[4] || (!write && c.operand[6]);
      require(contract, scales || scheme_of(c) != kKvInt8, "an int8 cache needs scales");
      require(contract, !some || scheme_of(c) != kKvInt8Static, "a static cache has no scales");
      break;
    }
    default: break;
  }
}

Extent operand_extent(const Contract& contract, const Command& c, int operand, int64_t rows, int64_t tokens,
                      bool x_is_q8) {
  const OperandSpec& spec = contract.operands[operand];
  const Sizes s = sizes_of(c);
  const bool out = spec.role == kOut, attention = c.opcode == kAttention;
  const int64_t columns = out || spec.name == "residual" ? s.columns_out : s.columns_in;
  const int64_t count = spec.all_rows ? tokens : rows;
  const Kind kind = spec.or_q8 && x_is_q8 ? kQ8 : spec.kind;
  const auto span = [&](int64_t nbytes) { return count ? (count - 1) * c.stride[operand] + nbytes : 0; };
  switch (kind) {
    case kTokens: return {count * 4, 4};
    case kF32: return {span(columns * 4), 4};
    case kQ8: return {span(Q8Row(columns).stride()), 64};
    case kPacked: return {packed_nbytes(c), 64};
    case kVector: return {s.vector * 4, 4};
    case kTable: return {s.context * s.table * 4, 4};
    case kKv: return {cache_nbytes(s, scheme_of(c), attention ? operand == 3 : c.ints[5] == 0), 64};
    default: return {s.heads * align_up(s.context, 16) * 4, 64};
  }
}

PackedUnits packed_units(const Command& c) {
  const int64_t blocks = paired(c) ? 2 : 1;
  const int64_t begin = table_bits(c.ints[2]) ? kTableNbytes : 0;
  return {begin, align_up(c.ints[0] / blocks, 16) / 16, blocks * block_nbytes(c.ints[1], c.ints[2], c.ints[3])};
}

int64_t context_of(const Command& c) {
  const bool bounded = c.opcode == kKvWrite || c.opcode == kAttention || c.opcode == kEmbedPositions;
  return bounded ? sizes_of(c).context : -1;
}

}  // namespace hearth
