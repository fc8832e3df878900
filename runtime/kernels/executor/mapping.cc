// Mapping at an address congruent to the offset, and the system's ways to have pages read or dropped.
#include "executor/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace hearth {
namespace {

size_t page_nbytes() { return size_t(sysconf(_SC_PAGESIZE)); }

size_t align_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// Where the file's byte 0 lies on a boundary of huge pages, so does every huge folio of the file.
void* map_aligned(int descriptor, size_t nbytes) {
  const size_t reserved = align_up(nbytes, page_nbytes()) + Mapping::kHuge;
  void* space = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return MAP_FAILED;
  const auto start = reinterpret_cast<uintptr_t>(space);
  const uintptr_t first = align_up(start, Mapping::kHuge), end = first + align_up(nbytes, page_nbytes());
  void* at = mmap(reinterpret_cast<void*>(first), nbytes, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0);
  if (at == MAP_FAILED) {
    const int error = errno;
    munmap(space, reserved);
    errno = error;
    return MAP_FAILED;
  }
  if (first > start) munmap(space, first - start);
  if (start + reserved > end) munmap(reinterpret_cast<void*>(end), start + reserved - end);
  return at;
}

}  // namespace

Mapping::Mapping(int descriptor, size_t nbytes) : nbytes_(nbytes), descriptor_(fcntl(descriptor, F_DUPFD_CLOEXEC, 0)) {
  if (descriptor_ < 0) return;
  void* at = map_aligned(descriptor_, nbytes);
  if (at == MAP_FAILED) return;
  data_ = static_cast<std::byte*>(at);
  madvise(at, nbytes_, MADV_HUGEPAGE);  // advice: what is not cached yet is read into huge folios
}

Mapping::~Mapping() {
  const int error = errno;
  if (data_) munmap(data_, nbytes_);
  if (descriptor_ >= 0) close(descriptor_);
  errno = error;
}

bool Mapping::populate(size_t offset, size_t nbytes) const {
  offset = std::min(offset, nbytes_);
  nbytes = std::min(nbytes, nbytes_ - offset);
  const size_t first = offset / page_nbytes() * page_nbytes();
  if (madvise(data_ + first, offset + nbytes - first, MADV_POPULATE_READ) != 0)
    return errno == EINVAL && madvise(data_ + first, offset + nbytes - first, MADV_WILLNEED) == 0;
  // In a virtual machine the first access to memory that the host has just filled is slow, too.
  for (size_t at = first; at < offset + nbytes; at += page_nbytes())
    static_cast<void>(*static_cast<const volatile std::byte*>(data_ + at));
  return true;
}

bool Mapping::lock() const { return mlock(data_, nbytes_) == 0; }

void Mapping::forget() const {
  madvise(data_, nbytes_, MADV_DONTNEED);  // of a shared mapping of a file: unmapped, not lost
  posix_fadvise(descriptor_, 0, off_t(nbytes_), POSIX_FADV_DONTNEED);
}

bool Mapping::sees_the_cache() const {
  struct stat facts;
  return fstat(descriptor_, &facts) == 0 && (facts.st_uid == geteuid() || geteuid() == 0);
}

}  // namespace hearth
