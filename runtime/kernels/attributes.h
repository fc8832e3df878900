// The attributes of commands by name, in the order of schemas/commands.py; the table of contracts has its names from here.
// A contract of one integer (N or K) has no type: `ints[0]` is it.
// Functions are always inlined: sources of several instruction sets include this.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include "kernel.h"

namespace hearth {

struct WeightInts {  // of embed and embed_positions; those of linear begin so
  static constexpr std::string_view kNames[] = {"N", "K", "layout", "group"};
  int64_t n, k, layout, group;
};

struct LinearInts {
  static constexpr std::string_view kNames[] = {"N", "K", "layout", "group", "activation"};
  int64_t n, k, layout, group, activation;
  [[gnu::always_inline]] bool paired() const { return gate_of(activation) != kNone; }
  [[gnu::always_inline]] int64_t columns() const { return paired() ? n / 2 : n; }
};

struct ActivateInts {
  static constexpr std::string_view kNames[] = {"N", "activation"};
  int64_t n, activation;
};

struct PoolInts {
  static constexpr std::string_view kNames[] = {"N", "kind"};
  int64_t n, kind;
};

struct RopeInts {
  static constexpr std::string_view kNames[] = {"heads", "head_dim", "rotary_dim"};
  int64_t heads, head_dim, rotary_dim;
};

struct HeadNormInts {
  static constexpr std::string_view kNames[] = {"heads", "head_dim"};
  int64_t heads, head_dim;
};

struct KvWriteInts {
  static constexpr std::string_view kNames[] = {"heads", "head_dim", "rotary_dim", "context", "scheme", "kind"};
  int64_t heads, head_dim, rotary_dim, context, scheme, kind;
  [[gnu::always_inline]] bool is_k() const { return kind == 0; }
};

struct AttentionInts {
  static constexpr std::string_view kNames[] = {"heads",   "kv_heads", "head_dim", "rotary_dim",
                                                "context", "scheme",   "window",   "causal"};
  int64_t heads, kv_heads, head_dim, rotary_dim, context, scheme, window, causal;
};

struct CacheFloats {  // behind the other floats of attention, of a static cache alone
  static constexpr std::string_view kNames[] = {"k_scale", "k_zero", "v_scale", "v_zero"};
  float k_scale, k_zero, v_scale, v_zero;
};

struct HadamardInts {  // blocks of q * r * s columns, q and r orders of dense factors
  static constexpr std::string_view kNames[] = {"K", "q", "r", "s"};
  int64_t k, q, r, s;
};

template <class T, class Value>
[[gnu::always_inline]] inline T named(const Value* values) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) == std::size(T::kNames) * sizeof(Value));
  T found;
  __builtin_memcpy(&found, values, sizeof found);
  return found;
}
template <class T>
[[gnu::always_inline]] inline T ints_of(const Command& command) { return named<T>(command.ints); }
template <class T>
[[gnu::always_inline]] inline T floats_of(const Command& command, int first = 0) { return named<T>(command.floats + first); }

}  // namespace hearth
