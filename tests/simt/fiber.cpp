#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// void simt_switch_stack(void** saved, void* next): what the ABI lets a callee change is gone anyway,
// so the other registers and the stack pointer are a whole context.
asm(R"(
    .text
    .globl  simt_switch_stack
    .hidden simt_switch_stack
    .type   simt_switch_stack, @function
simt_switch_stack:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq  %rsp, (%rdi)
    movq  %rsi, %rsp
    popq  %r15
    popq  %r14
    popq  %r13
    popq  %r12
    popq  %rbx
    popq  %rbp
    ret
    .cfi_endproc
    .size simt_switch_stack, .-simt_switch_stack
)");
extern "C" void simt_switch_stack(void** saved, void* next);
#endif

namespace simt {
namespace {

// A thread's registers and local arrays, the kernel's parameter (32,764 bytes at most) and, where
// the kernel throws, the unwinder. AddressSanitizer's stacks are larger.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif
constexpr size_t kGuardBytes = 4096;
constexpr size_t kColors = 64;  // cache lines of 64 bytes: every set of a 32 KiB L1

Fiber* from = nullptr;  // whoever switched last
Fiber* to = nullptr;    // and where to

}  // namespace

Fiber::Fiber(size_t index) : color_(index % kColors * 64), bytes_(kStackBytes) {
  mapping_ = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED) {
    throw std::bad_alloc();
  }
  // An overrun stack is a segmentation fault, not somebody else's variables.
  mprotect(mapping_, kGuardBytes, PROT_NONE);
  bottom_ = static_cast<char*>(mapping_) + kGuardBytes;
}

Fiber::~Fiber() {
  if (mapping_ != nullptr) {
    munmap(mapping_, kGuardBytes + kStackBytes);
  }
}

void Fiber::prepare(Entry entry) {
  entry_ = entry;
  char* stack = static_cast<char*>(mapping_) + kGuardBytes;
  const size_t usable = kStackBytes - color_;
#if defined(__SANITIZE_ADDRESS__)
  // Frames that were left by a failing kernel are still marked.
  ASAN_UNPOISON_MEMORY_REGION(stack, kStackBytes);
  fake_stack_ = nullptr;
#endif
#if defined(__x86_64__)
  // The frame that simt_switch_stack() pops: six registers, begin() and, as a call would leave it at
  // 8 bytes past a multiple of 16, the address to return to: none.
  auto* top = reinterpret_cast<uintptr_t*>(stack + usable) - 1;
  *top = 0;
  *--top = reinterpret_cast<uintptr_t>(&Fiber::begin);
  for (int saved_register = 0; saved_register < 6; ++saved_register) {
    *--top = 0;
  }
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = usable;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::begin, 0);
#endif
}

void Fiber::begin() {
#if defined(__SANITIZE_ADDRESS__)
  // This is also how the host's stack becomes known.
  __sanitizer_finish_switch_fiber(nullptr, &from->bottom_, &from->bytes_);
#endif
  to->entry_();
}

void Fiber::leave_for(Fiber& next) {
  from = this;
  to = &next;
#if defined(__x86_64__)
  simt_switch_stack(&stack_pointer_, next.stack_pointer_);
#else
  swapcontext(&context_, &next.context_);
#endif
}

void Fiber::switch_to(Fiber& next) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, next.bottom_, next.bytes_);
#endif
  leave_for(next);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &from->bottom_, &from->bytes_);
#endif
}

void Fiber::end_in(Fiber& next) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, next.bottom_, next.bytes_);
#endif
  leave_for(next);
  std::abort();  // nobody switches to a fiber that has ended
}

}  // namespace simt
