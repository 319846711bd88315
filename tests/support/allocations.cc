#include "tests/support/allocations.h"

#include <cstdlib>
#include <new>

namespace freshet {
namespace {

thread_local int64_t allocations = 0;

void* Count(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  ++allocations;
  return memory;
}

}  // namespace

int64_t AllocationsOfThisThread() { return allocations; }

}  // namespace freshet

// The standard library's other forms call these.
void* operator new(std::size_t size) { return freshet::Count(std::malloc(size == 0 ? 1 : size)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto unit = static_cast<std::size_t>(alignment);
  return freshet::Count(std::aligned_alloc(unit, (size + unit - 1) / unit * unit));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
