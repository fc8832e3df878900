// How often this module has allocated memory, so that a test can show that a run does not.
#pragma once

#include <cstdint>

namespace hearth {

int64_t allocations();
void count_allocation();

}  // namespace hearth
