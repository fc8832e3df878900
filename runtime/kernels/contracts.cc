// The table of contracts and the sizes that follow from it (docs/layouts.md).
#include "contracts.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "attributes.h"

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
constexpr OperandSpec kGatedOps[] = {{"gate", kIn, kF32}, {"up", kIn, kF32}, {"y", kOut, kF32}};
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

constexpr Names kK[] = {"K"}, kN[] = {"N"}, kEps[] = {"eps"}, kFactor[] = {"factor"};
constexpr Names kCodes[] = {"scale", "zero"}, kNormCodes[] = {"eps", "scale", "zero"};
constexpr Names kScaled[] = {"scale"}, kCapped[] = {"scale", "cap"}, kCap[] = {"cap"};

constexpr Contract kContracts[] = {
    {kEmbed, "embed", kEmbedOps, WeightInts::kNames, {}},
    {kRmsNorm, "rms_norm", kNormOps, kK, kEps},
    {kRmsNormQuantize, "rms_norm_quantize", kNormQ8Ops, kK, kEps},
    {kQuantize, "quantize", kQuantizeOps, kK, {}},
    {kLinear, "linear", kLinearOps, LinearInts::kNames, {}},
    {kAdd, "add", kAddOps, kN, {}},
    {kMul, "mul", kBinaryOps, kN, {}},
    {kActivate, "activate", kUnaryOps, ActivateInts::kNames, {}},
    {kSwiGLU, "swiglu", kGatedOps, kN, {}},
    {kRope, "rope", kRopeOps, RopeInts::kNames, {}, true},
    {kKvWrite, "kv_write", kKvWriteOps, KvWriteInts::kNames, {}, true, kCodes},
    {kAttention, "attention", kAttentionOps, AttentionInts::kNames, kScaled, true, CacheFloats::kNames},
    {kLastRows, "last_rows", kGatherOps, kN, {}, true},
    {kLayerNorm, "layer_norm", kLayerNormOps, kK, kEps},
    {kLayerNormQuantize, "layer_norm_quantize", kLayerNormQ8Ops, kK, kEps},
    {kEmbedPositions, "embed_positions", kEmbedPositionsOps, WeightInts::kNames, {}, true},
    {kPool, "pool", kGatherOps, PoolInts::kNames, {}, true},
    {kL2Normalize, "l2_normalize", kUnaryOps, kN, kEps},
    {kQuantizeStatic, "quantize_static", kQuantizeOps, kK, kCodes},
    {kRmsNormQuantizeStatic, "rms_norm_quantize_static", kNormQ8Ops, kK, kNormCodes},
    {kLayerNormQuantizeStatic, "layer_norm_quantize_static", kLayerNormQ8Ops, kK, kNormCodes},
    {kHadamard, "hadamard", kHadamardOps, HadamardInts::kNames, {}},
    {kHeadNorm, "head_norm", kNormOps, HeadNormInts::kNames, kEps},
    {kGegluTanh, "geglu_tanh", kGatedOps, kN, {}},
    {kScale, "scale", kUnaryOps, kN, kFactor},
    {kSoftCap, "soft_cap", kUnaryOps, kN, kCap},
    {kAttentionCapped, "attention_capped", kAttentionOps, AttentionInts::kNames, kCapped, true, CacheFloats::kNames},
};

bool is_attention(const Command& c) { return c.opcode == kAttention || c.opcode == kAttentionCapped; }

// Signs of the dense factors of a hadamard.
int64_t signs_of(const HadamardInts& i) { return (i.q > 1 ? i.q * i.q : 0) + (i.r > 1 ? i.r * i.r : 0); }

// The integer attributes of a command, by the names that the layouts use.
struct Sizes {
  int64_t columns_in = 0, columns_out = 0;  // of the f32 or q8 rows read and written
  int64_t vector = 0, table = 0;            // values of a vector; values of one row of a table
  int64_t heads = 0, head_dim = 0, context = 0;
};

Sizes sizes_of(const Command& c) {
  switch (c.opcode) {
    case kEmbed: return {.columns_out = ints_of<WeightInts>(c).k};
    case kEmbedPositions: {
      const auto i = ints_of<WeightInts>(c);
      return {.columns_out = i.k, .context = i.n};
    }
    case kLinear: {
      const auto i = ints_of<LinearInts>(c);
      return {.columns_in = i.k, .columns_out = i.columns(), .vector = i.n};
    }
    case kRope: {
      const auto i = ints_of<RopeInts>(c);
      return {.columns_in = i.heads * i.head_dim, .columns_out = i.heads * i.head_dim, .table = i.rotary_dim / 2};
    }
    case kKvWrite: {
      const auto i = ints_of<KvWriteInts>(c);
      return {.columns_in = i.heads * i.head_dim, .table = i.rotary_dim / 2,
              .heads = i.heads, .head_dim = i.head_dim, .context = i.context};
    }
    case kAttention:
    case kAttentionCapped: {
      const auto i = ints_of<AttentionInts>(c);
      return {.columns_in = i.heads * i.head_dim, .columns_out = i.heads * i.head_dim, .table = i.rotary_dim / 2,
              .heads = i.kv_heads, .head_dim = i.head_dim, .context = i.context};
    }
    case kHadamard: {
      const auto i = ints_of<HadamardInts>(c);
      return {.columns_in = i.k, .columns_out = i.k, .vector = signs_of(i)};
    }
    case kHeadNorm: {
      const auto i = ints_of<HeadNormInts>(c);
      return {.columns_in = i.heads * i.head_dim, .columns_out = i.heads * i.head_dim, .vector = i.head_dim};
    }
    default: return {.columns_in = c.ints[0], .columns_out = c.ints[0], .vector = c.ints[0]};
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

bool paired(const Command& c) { return c.opcode == kLinear && ints_of<LinearInts>(c).paired(); }

int64_t packed_nbytes(const Command& c) {
  const int64_t layout = ints_of<WeightInts>(c).layout;
  const bool scaled = layout == kQ8B16 || layout == kQ4B16;
  const int64_t scales = scaled ? 64 : table_bits(layout) ? 32 : 0;  // bytes of a block
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

int64_t scheme_of(const Command& c) {
  return c.opcode == kKvWrite ? ints_of<KvWriteInts>(c).scheme : ints_of<AttentionInts>(c).scheme;
}

[[noreturn]] void refuse(const Contract& contract, const std::string& what) {
  throw std::invalid_argument(std::string(contract.name) + ": " + what);
}

void require(const Contract& contract, bool holds, const char* what) {
  if (!holds) refuse(contract, what);
}

void check_weight(const Contract& contract, const WeightInts& i) {
  require(contract, i.layout >= kF32B16 && i.layout < kLayouts, "unknown layout");
  const bool integer = i.layout == kQ8B16 || i.layout == kQ4B16 || table_bits(i.layout);
  if (i.layout == kQ4B16 || table_bits(i.layout))
    require(contract, i.group == 32 || i.group == 64 || i.group == 128, "group is not 32, 64 or 128");
  if (i.layout == kG4B16 || i.layout == kG8B16)
    require(contract, i.group > 0 && i.group % 16 == 0 && i.group < i.k + 16, "group is not a multiple of 16 up to K");
  if (integer) require(contract, i.k <= 131072, "K is above 131072");
}

// K is blocks of q * r * s columns, q and r orders of dense factors, s a power of two.
void check_factors(const Contract& contract, const Command& c) {
  const auto [k, q, r, s] = ints_of<HadamardInts>(c);
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

// What kv_write and attention share; `scales` are those of the halves that the command touches.
void check_cache(const Contract& contract, const Command& c, int64_t heads, int64_t rotary_dim,
                 std::pair<const void*, const void*> scales) {
  const Sizes s = sizes_of(c);
  const auto [first, second] = scales;
  require(contract, s.context > 0, "no context");
  require(contract, scheme_of(c) <= kKvInt8Static, "unknown cache scheme");
  check_heads(contract, heads, s.head_dim, rotary_dim);
  require(contract, !c.operand[1] == !c.operand[2], "cos without sin");
  require(contract, (first && second) || scheme_of(c) != kKvInt8, "an int8 cache needs scales");
  require(contract, (!first && !second) || scheme_of(c) != kKvInt8Static, "a static cache has no scales");
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
  const size_t scheme = size_t(std::ranges::find(contract.ints, "scheme") - contract.ints.begin());
  const bool fixed = !contract.fixed.empty() && ints.size() > scheme && ints[scheme] == kKvInt8Static;
  return contract.floats.size() + (fixed ? contract.fixed.size() : 0);
}

int variant_of(const Command& c) {
  switch (c.opcode) {
    case kEmbed:
    case kEmbedPositions:
    case kLinear: return int(ints_of<WeightInts>(c).layout);
    case kKvWrite:
    case kAttention:
    case kAttentionCapped: return int(scheme_of(c));
    default: return 0;
  }
}

void check_attributes(const Contract& contract, const Command& c) {
  constexpr int64_t kMost = int64_t{1} << 28;  // with check_heads: keeps every product of sizes within 64 bits
  for (size_t n = 0; n < contract.ints.size(); ++n)
    if (c.ints[n] < 0 || c.ints[n] >= kMost) refuse(contract, "attribute " + std::string(contract.ints[n]) + " out of range");
  for (size_t n = 0; n < contract.operands.size(); ++n)
    if (!contract.operands[n].optional && !c.operand[n])
      refuse(contract, "operand " + std::string(contract.operands[n].name) + " is missing");
  const Sizes s = sizes_of(c);
  require(contract, s.columns_in + s.columns_out > 0, "no columns");
  switch (c.opcode) {
    case kEmbed:
    case kEmbedPositions: check_weight(contract, ints_of<WeightInts>(c)); break;
    case kActivate: {
      const int64_t activation = ints_of<ActivateInts>(c).activation;
      const bool function = activation != kNone && gate_of(activation) == kNone && activation < kActivations;
      require(contract, function, "unknown activation");
      break;
    }
    case kHadamard: check_factors(contract, c); break;
    case kPool: require(contract, ints_of<PoolInts>(c).kind < kPoolings, "unknown pooling"); break;
    case kLinear: {
      const auto i = ints_of<LinearInts>(c);
      require(contract, i.activation < kActivations, "unknown activation");
      check_weight(contract, ints_of<WeightInts>(c));
      require(contract, !i.paired() || i.n % 2 == 0, "a gated activation needs an even N");
      break;
    }
    case kRope: {
      const auto i = ints_of<RopeInts>(c);
      check_heads(contract, i.heads, i.head_dim, i.rotary_dim);
      break;
    }
    case kHeadNorm: {
      const auto i = ints_of<HeadNormInts>(c);
      check_heads(contract, i.heads, i.head_dim, 0);
      break;
    }
    case kAttention:
    case kAttentionCapped: {
      const auto i = ints_of<AttentionInts>(c);
      require(contract, i.kv_heads > 0 && i.heads % i.kv_heads == 0, "heads is not a multiple of kv_heads");
      require(contract, i.causal <= 1, "causal is neither 0 nor 1");
      require(contract, i.causal == 1 || i.window == 0, "a window needs causal attention");
      check_cache(contract, c, i.heads, i.rotary_dim, {c.operand[4], c.operand[6]});
      break;
    }
    case kKvWrite: {
      const auto i = ints_of<KvWriteInts>(c);
      check_cache(contract, c, i.heads, i.rotary_dim, {c.operand[4], c.operand[4]});
      break;
    }
    default: break;
  }
}

Extent operand_extent(const Contract& contract, const Command& c, int operand, int64_t rows, int64_t tokens,
                      bool x_is_q8) {
  const OperandSpec& spec = contract.operands[operand];
  const Sizes s = sizes_of(c);
  const bool out = spec.role == kOut, attention = is_attention(c);
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
    case kKv: return {cache_nbytes(s, scheme_of(c), attention ? operand == 3 : ints_of<KvWriteInts>(c).is_k()), 64};
    default: return {s.heads * align_up(s.context, 16) * 4, 64};
  }
}

PackedUnits packed_units(const Command& c) {
  const int64_t blocks = paired(c) ? 2 : 1;
  const auto [n, k, layout, group] = ints_of<WeightInts>(c);
  const int64_t begin = table_bits(layout) ? kTableNbytes : 0;
  return {begin, align_up(n / blocks, 16) / 16, blocks * block_nbytes(k, layout, group)};
}

int64_t context_of(const Command& c) {
  const bool bounded = c.opcode == kKvWrite || is_attention(c) || c.opcode == kEmbedPositions;
  return bounded ? sizes_of(c).context : -1;
}

}  // namespace hearth
