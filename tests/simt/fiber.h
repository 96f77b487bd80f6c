// A stack to run on and the place where it stopped: what one CUDA thread is on a CPU.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {

class Fiber {
 public:
  using Entry = void (*)();

  /// The stack that is running already: the host's.
  Fiber() = default;
  /// A stack of its own. Fibers run side by side in memory, so `index` moves the start of each to
  /// other cache lines than its neighbours'.
  explicit Fiber(size_t index);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The next switch to this fiber calls entry(), which never returns; what ran here is forgotten.
  void prepare(Entry entry);

  /// Goes on in `to`, until somebody switches back.
  void switch_to(Fiber& to);
  /// Goes on in `to` for good.
  [[noreturn]] void end_in(Fiber& to);

 private:
  static void begin();
  void leave_for(Fiber& to);

  void* mapping_ = nullptr;
  size_t color_ = 0;
  Entry entry_ = nullptr;
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  // AddressSanitizer's notion of this stack.
  const void* bottom_ = nullptr;
  size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace simt
