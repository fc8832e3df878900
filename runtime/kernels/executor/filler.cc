// Piece by piece, since the kernel holds a lock of the process meanwhile.
#include "executor/filler.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace hearth {
namespace {

constexpr uintptr_t kPiece = uintptr_t{2} << 20;  // a huge page

bool cached(void* start, size_t nbytes, size_t page_nbytes) {
  unsigned char pages[kPiece / 4096];  // no page is smaller
  if (mincore(start, nbytes, pages) != 0) return false;
  const size_t count = (nbytes + page_nbytes - 1) / page_nbytes;
  return std::all_of(pages, pages + count, [](unsigned char page) { return page & 1; });
}

}  // namespace

Filler::~Filler() {
  stop();
  if (owner_ == getpid()) pthread_join(thread_, nullptr);  // a forked child has no such thread
}

void Filler::fill() const {
  const auto page_nbytes = uintptr_t(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(mapped_.data());
  const uintptr_t end = begin + mapped_.size();
  for (uintptr_t at = begin / page_nbytes * page_nbytes; at < end && !stopping_.load(std::memory_order_relaxed);) {
    const uintptr_t next = std::min(end, at / kPiece * kPiece + kPiece);
    void* const start = reinterpret_cast<void*>(at);
    if (cached(start, next - at, page_nbytes)) madvise(start, next - at, MADV_POPULATE_READ);
    at = next;
  }
}

void Filler::start(std::span<const std::byte> mapped) {
  if (owner_ != 0 || mapped.empty()) return;
  mapped_ = mapped;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals stay with the threads of the program
  const auto run = [](void* self) -> void* {
    static_cast<const Filler*>(self)->fill();
    return nullptr;
  };
  if (pthread_create(&thread_, nullptr, run, this) == 0) owner_ = getpid();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace hearth
