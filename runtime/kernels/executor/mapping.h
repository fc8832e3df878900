// A file mapped for reading so that the page cache's huge folios are mapped whole, and how it gets into memory.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace hearth {

class Mapping {
 public:
  static constexpr size_t kHuge = size_t{2} << 20;  // where a folio of this size can be mapped by one entry

  // The first `nbytes` of an open file, which the mapping keeps open. Sets errno and is empty where that fails.
  Mapping(int descriptor, size_t nbytes);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const std::byte* data() const { return data_; }
  size_t nbytes() const { return nbytes_; }

  // Reads and maps a part now; false (errno) where that fails. Old kernels start to read it.
  bool populate(size_t offset, size_t nbytes) const;
  // Keeps all of it in memory; false (errno) where a limit forbids it.
  bool lock() const;
  // Lets go of all pages that nobody else maps, so that they are read anew.
  void forget() const;
  // Starts to map, in a thread of low priority, what the page cache holds already; reads nothing.
  void map_cached();

 private:
  void serve() const;
  bool may_see_the_cache() const;
  bool cached(size_t offset, size_t nbytes) const;

  std::byte* data_ = nullptr;
  size_t nbytes_;
  int descriptor_;
  pid_t owner_ = 0;  // of the thread; 0: none
  pthread_t thread_{};
  std::atomic<bool> stopping_{false};
};

}  // namespace hearth
