// Where the threads of a run stay while it lasts, and where they really were.
#pragma once

#include <sched.h>

#include <vector>

namespace hearth {

// The cores of each thread; none at all: wherever the caller may be. What was not asked for by name gives way in a
// run whose caller may not use all of these cores.
struct Placement {
  std::vector<cpu_set_t> cores;
  bool asked = false;
};

// Of one thread in the runs of an entry, as the kernel tells: the cores it was allowed at the end of the last run,
// and those on which it was at the end of any.
struct Whereabouts {
  cpu_set_t allowed, ran_on;
  void note();  // of the calling thread
};

// Keeps the calling thread on the cores given, until the end of the block. Where that is not allowed, nothing happens.
class Stay {
 public:
  explicit Stay(const cpu_set_t* cores, const cpu_set_t& before);
  ~Stay();
  Stay(const Stay&) = delete;
  Stay& operator=(const Stay&) = delete;

 private:
  const cpu_set_t before_;
  const bool moved_;
};

// The cores that the calling thread may use; none where the kernel does not tell.
cpu_set_t allowed_cores();
// A core for each thread, where there are as many threads as cores and more than one; else no wish.
Placement one_core_each(int threads);
// Whether a thread whose cores are `allowed` should be placed so.
bool applies(const Placement& placement, const cpu_set_t& allowed);

}  // namespace hearth
