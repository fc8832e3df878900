// Anonymous mappings.
#include "executor/pages.h"

#include <sys/mman.h>

#include <new>

#include "executor/count.h"

namespace hearth {

Pages::Pages(size_t nbytes, bool huge) : mapped_(nbytes ? nbytes : 1), nbytes_(nbytes) {
  count_allocation();
  void* at = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(at);
  if (huge) madvise(data_, mapped_, MADV_HUGEPAGE);  // advice: may fail
}

Pages::~Pages() {
  if (data_) munmap(data_, mapped_);
}

}  // namespace hearth
