// Bad arguments of a caller: std::invalid_argument with a text that says what was expected.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace hearth {

[[noreturn]] inline void refuse(const std::string& what) { throw std::invalid_argument(what); }

inline std::string number(int64_t n) { return std::to_string(n); }

inline void require(bool holds, const char* what) {
  if (!holds) refuse(what);
}

}  // namespace hearth
