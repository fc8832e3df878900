// Mapping at an address congruent to the offset, populating, and the thread that maps what is cached.
#include "executor/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

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
  stopping_ = true;
  if (owner_ == getpid()) pthread_join(thread_, nullptr);  // a forked child has no such thread
  const int error = errno;
  if (data_) munmap(data_, nbytes_);
  if (descriptor_ >= 0) close(descriptor_);
  errno = error;
}

bool Mapping::populate(size_t offset, size_t nbytes) const {
  offset = std::min(offset, nbytes_);
  nbytes = std::min(nbytes, nbytes_ - offset);
  const size_t first = offset / page_nbytes() * page_nbytes();
  if (madvise(data_ + first, offset + nbytes - first, MADV_POPULATE_READ) == 0) return true;
  return errno == EINVAL && madvise(data_ + first, offset + nbytes - first, MADV_WILLNEED) == 0;
}

bool Mapping::lock() const { return mlock(data_, nbytes_) == 0; }

void Mapping::forget() const {
  madvise(data_, nbytes_, MADV_DONTNEED);  // of a shared mapping of a file: unmapped, not lost
  posix_fadvise(descriptor_, 0, off_t(nbytes_), POSIX_FADV_DONTNEED);
}

// Of a file that is not ours the kernel says that all is cached, whatever is (mincore(2)).
bool Mapping::may_see_the_cache() const {
  struct stat facts;
  if (fstat(descriptor_, &facts) != 0) return false;
  return facts.st_uid == geteuid() || geteuid() == 0;
}

bool Mapping::cached(size_t offset, size_t nbytes) const {
  unsigned char pages[kHuge / 4096];  // no page is smaller
  const size_t count = align_up(nbytes, page_nbytes()) / page_nbytes();
  if (mincore(data_ + offset, nbytes, pages) != 0) return false;
  return std::all_of(pages, pages + count, [](unsigned char page) { return page & 1; });
}

void Mapping::serve() const {
  setpriority(PRIO_PROCESS, id_t(syscall(SYS_gettid)), 19);
  for (size_t offset = 0; offset < nbytes_ && !stopping_; offset += kHuge) {
    const size_t nbytes = std::min(kHuge, nbytes_ - offset);
    if (cached(offset, nbytes)) madvise(data_ + offset, nbytes, MADV_POPULATE_READ);
  }
}

void Mapping::map_cached() {
  if (owner_ == getpid() || !may_see_the_cache()) return;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals stay with the threads of the program
  const auto run = [](void* self) -> void* {
    static_cast<const Mapping*>(self)->serve();
    return nullptr;
  };
  if (pthread_create(&thread_, nullptr, run, this) == 0) owner_ = getpid();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace hearth
