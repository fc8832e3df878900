// Affinity by system calls: a wish, which the kernel may refuse.
#include "executor/placement.h"

#include <algorithm>

namespace hearth {

cpu_set_t allowed_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) CPU_ZERO(&cores);
  return cores;
}

Placement one_core_each(int threads) {
  const cpu_set_t all = allowed_cores();
  Placement placement;
  if (threads < 2 || CPU_COUNT(&all) != threads) return placement;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &all)) continue;
    cpu_set_t& one = placement.cores.emplace_back();
    CPU_ZERO(&one);
    CPU_SET(core, &one);
  }
  return placement;
}

bool applies(const Placement& placement, const cpu_set_t& allowed) {
  if (placement.cores.empty() || CPU_COUNT(&allowed) == 0) return false;
  return placement.asked || std::ranges::all_of(placement.cores, [&](const cpu_set_t& cores) {
           cpu_set_t both;
           CPU_AND(&both, &cores, &allowed);
           return CPU_EQUAL(&both, &cores);
         });
}

void Whereabouts::note() {
  allowed = allowed_cores();
  if (const int core = sched_getcpu(); core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &ran_on);
}

Stay::Stay(const cpu_set_t* cores, const cpu_set_t& before)
    : before_(before), moved_(cores && sched_setaffinity(0, sizeof *cores, cores) == 0) {}

Stay::~Stay() {
  if (moved_) sched_setaffinity(0, sizeof before_, &before_);
}

}  // namespace hearth
