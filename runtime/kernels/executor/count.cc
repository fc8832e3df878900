// operator new of this module, counted. Kernels and executor use nothing else but Pages, which counts itself.
#include "executor/count.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace hearth {
namespace {
std::atomic<int64_t> count{0};
}

int64_t allocations() { return count.load(std::memory_order_relaxed); }
void count_allocation() { count.fetch_add(1, std::memory_order_relaxed); }

}  // namespace hearth

void* operator new(size_t nbytes) {
  hearth::count_allocation();
  void* at = std::malloc(nbytes ? nbytes : 1);
  if (!at) throw std::bad_alloc();
  return at;
}

void* operator new(size_t nbytes, std::align_val_t alignment) {
  hearth::count_allocation();
  const size_t to = size_t(alignment);
  void* at = std::aligned_alloc(to, (nbytes + to) / to * to);
  if (!at) throw std::bad_alloc();
  return at;
}

void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, size_t, std::align_val_t) noexcept { std::free(at); }
