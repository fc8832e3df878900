// A file mapped for reading so that the page cache's huge folios are mapped whole, and how it gets into memory.
#pragma once

#include <cstddef>

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
  // Whether the kernel tells this process what of the file is cached; to others all seems to be (mincore(2)).
  bool sees_the_cache() const;

 private:
  std::byte* data_ = nullptr;
  size_t nbytes_;
  int descriptor_;
};

}  // namespace hearth
