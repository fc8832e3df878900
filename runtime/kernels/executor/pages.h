// Zeroed, page-aligned memory that takes room only where it is touched.
#pragma once

#include <cstddef>

namespace hearth {

class Pages {
 public:
  // `huge`: ask for transparent huge pages. Throws std::bad_alloc.
  explicit Pages(size_t nbytes, bool huge = false);
  ~Pages();
  Pages(Pages&& other) noexcept : data_(other.data_), mapped_(other.mapped_), nbytes_(other.nbytes_) {
    other.data_ = nullptr;
    other.mapped_ = 0;
  }
  Pages& operator=(Pages&&) = delete;

  std::byte* data() const { return data_; }
  size_t nbytes() const { return nbytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t mapped_ = 0, nbytes_;
};

}  // namespace hearth
