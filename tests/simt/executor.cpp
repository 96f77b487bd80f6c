#include "executor.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "fiber.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

Traffic traffic = {};

namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kMaxBlock = 1024;
constexpr size_t kMaxSharedBytes = 99 * 1024;  // the least of all GPUs of sm_80 and newer
constexpr int kPoison = 0xFF;

// ---- order -------------------------------------------------------------------------------------

struct Order {
  enum class Kind { kForward, kReverse, kRandom } kind = Kind::kForward;
  uint64_t seed = 0;
};

Order parse_order(std::string_view text) {
  constexpr std::string_view kRandom = "random:";
  if (text == "forward") {
    return {Order::Kind::kForward};
  }
  if (text == "reverse") {
    return {Order::Kind::kReverse};
  }
  if (text.starts_with(kRandom)) {
    Order order{Order::Kind::kRandom};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + kRandom.size(), end, order.seed);
    if (error == std::errc() && stop == end) {
      return order;
    }
  }
  throw std::invalid_argument("the order of threads is \"" + std::string(text) +
                              "\" but must be forward, reverse or random:SEED");
}

Order& current_order() {
  static Order order = [] {
    const char* text = std::getenv("AIRCACHE_SIMT_ORDER");
    return parse_order(text == nullptr ? "forward" : text);
  }();
  return order;
}

// ---- threads -----------------------------------------------------------------------------------

// One cp.async that is under way.
struct Copy {
  void* shared;
  const void* global;
  uint32_t group;
  unsigned char bytes[16];  // as they were at the beginning
};

struct Thread {
  explicit Thread(size_t index) : fiber(index) {}

  enum class State { kRuns, kAtBarrier, kAtCollective, kEnded };

  Fiber fiber;
  State state = State::kRuns;
  // Where it waits.
  const char* call = nullptr;
  Where where;
  uint32_t mask = 0;
  void* packet = nullptr;
  // Its copies, oldest first, and how many groups it has closed.
  std::vector<Copy> copies;
  uint32_t copy_groups = 0;

  void wait_at(State what, const char* name, Where place) {
    state = what;
    call = name;
    where = place;
  }
};

bool same_place(const Thread& a, const Thread& b) {
  return a.where.line() == b.where.line() && a.where.column() == b.where.column() &&
         (a.where.file_name() == b.where.file_name() ||
          std::strcmp(a.where.file_name(), b.where.file_name()) == 0);
}

// "threads 0-31 and 64", from ascending numbers.
std::string list_threads(const std::vector<uint32_t>& numbers) {
  std::ostringstream text;
  text << (numbers.size() == 1 ? "thread " : "threads ");
  for (size_t first = 0, last; first < numbers.size(); first = last + 1) {
    last = first;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) {
      ++last;
    }
    text << (first == 0 ? "" : ", ") << numbers[first];
    if (last > first) {
      text << "-" << numbers[last];
    }
  }
  return text.str();
}

// ---- the machine -------------------------------------------------------------------------------

// One launch's state; there is one machine, which keeps its fibers from launch to launch.
class Machine {
 public:
  void run(const Launch& launch, void (*body)(const void*), const void* argument);

  void* shared() const { return shared_.get(); }
  size_t shared_bytes() const { return launch_->shared_bytes; }
  Thread& current() { return *threads_[threadIdx.x]; }
  int barrier(const char* call, bool vote, Where where);
  void rendezvous(const char* call, uint32_t mask, Exchange exchange, void* packet, Where where);

  // An Error's text begins with this.
  std::string block_name() const;

 private:
  struct Warp {
    uint32_t ready = 0;    // lanes that can run
    uint32_t waiting = 0;  // lanes that wait at a collective
    void* packets[kLanes] = {};
  };
  struct Free {
    void operator()(void* pointer) const { ::operator delete(pointer, std::align_val_t(16)); }
  };

  static void thread_main();
  void run_block();
  uint32_t choose(uint32_t mask);
  Fiber& next();
  bool open_barrier();
  void wake(uint32_t warp, uint32_t lanes) {
    warps_[warp].ready |= lanes;
    ready_warps_ |= 1u << warp;
  }
  std::string stuck() const;

  const Launch* launch_ = nullptr;
  void (*body_)(const void*) = nullptr;
  const void* argument_ = nullptr;
  Order order_;
  std::minstd_rand random_;

  Fiber host_;
  std::vector<std::unique_ptr<Thread>> threads_;
  Warp warps_[kMaxBlock / kLanes];
  uint32_t ready_warps_ = 0;  // warps with a lane that can run
  uint32_t at_barrier_ = 0;   // threads that wait at a barrier
  int votes_ = 0;             // of those that have come to the barrier
  int counted_ = 0;           // of the last barrier that opened
  std::unique_ptr<void, Free> shared_;
  std::exception_ptr error_;
};

Machine machine;

std::string Machine::block_name() const {
  std::ostringstream text;
  text << "kernel " << launch_->kernel << ", block (" << blockIdx.x << ", " << blockIdx.y << ", "
       << blockIdx.z << ")";
  return text.str();
}

// Which of the ready lanes (warps) goes next.
uint32_t Machine::choose(uint32_t mask) {
  switch (order_.kind) {
    case Order::Kind::kForward:
      break;
    case Order::Kind::kReverse:
      return 31u - static_cast<uint32_t>(std::countl_zero(mask));
    case Order::Kind::kRandom: {
      const auto first = static_cast<int>(random_() / 64 % 32);
      return (static_cast<uint32_t>(std::countr_zero(std::rotr(mask, first)) + first)) % 32;
    }
  }
  return static_cast<uint32_t>(std::countr_zero(mask));
}

// Whoever runs next: a thread, or the host when the block is done or stuck.
Fiber& Machine::next() {
  if (error_ || (ready_warps_ == 0 && !open_barrier())) {
    return host_;
  }
  const uint32_t warp = choose(ready_warps_);
  const uint32_t lane = choose(warps_[warp].ready);
  warps_[warp].ready &= ~(1u << lane);
  if (warps_[warp].ready == 0) {
    ready_warps_ &= ~(1u << warp);
  }
  threadIdx.x = warp * kLanes + lane;
  Thread& thread = current();
  thread.state = Thread::State::kRuns;
  return thread.fiber;
}

// Nobody can run. If all wait at one barrier they go on; else they have ended, or it is an error.
bool Machine::open_barrier() {
  const uint32_t threads = blockDim.x;
  const bool one_barrier =
      at_barrier_ == threads &&
      std::all_of(threads_.begin() + 1, threads_.begin() + threads,
                  [this](const auto& thread) { return same_place(*thread, *threads_[0]); });
  if (!one_barrier) {
    if (std::any_of(threads_.begin(), threads_.begin() + threads,
                    [](const auto& thread) { return thread->state != Thread::State::kEnded; })) {
      error_ = std::make_exception_ptr(Error(stuck()));
    }
    return false;
  }
  at_barrier_ = 0;
  counted_ = votes_;
  votes_ = 0;
  for (uint32_t warp = 0; warp < threads / kLanes; ++warp) {
    wake(warp, ~0u);
  }
  return true;
}

std::string Machine::stuck() const {
  std::map<std::string, std::vector<uint32_t>> places;
  for (uint32_t index = 0; index < blockDim.x; ++index) {
    const Thread& thread = *threads_[index];
    std::ostringstream place;
    if (thread.state == Thread::State::kEnded) {
      place << "ended";
    } else {
      place << "at " << thread.call;
      if (thread.state == Thread::State::kAtCollective) {
        place << " with mask 0x" << std::hex << thread.mask << std::dec;
      }
      place << " (" << thread.where.file_name() << ":" << thread.where.line() << ")";
    }
    places[place.str()].push_back(index);
  }
  std::string text = block_name() + ": threads wait for threads that never come";
  for (const auto& [place, numbers] : places) {
    text += "\n  " + list_threads(numbers) + ": " + place;
  }
  return text;
}

int Machine::barrier(const char* call, bool vote, Where where) {
  Thread& me = current();
  me.wait_at(Thread::State::kAtBarrier, call, where);
  ++at_barrier_;
  votes_ += vote ? 1 : 0;
  if (Fiber& other = next(); &other != &me.fiber) {
    me.fiber.switch_to(other);
  }
  return counted_;  // the next barrier opens only after all have been here
}

void Machine::rendezvous(const char* call, uint32_t mask, Exchange exchange, void* packet,
                         Where where) {
  Thread& me = current();
  const uint32_t number = threadIdx.x / kLanes;
  const uint32_t lane = threadIdx.x % kLanes;
  Warp& warp = warps_[number];
  if ((mask >> lane & 1u) == 0) {
    throw Error(std::string(call) + " is called by a lane that is not in its mask");
  }
  me.wait_at(Thread::State::kAtCollective, call, where);
  me.mask = mask;
  warp.packets[lane] = packet;
  warp.waiting |= 1u << lane;
  bool complete = (warp.waiting & mask) == mask;
  for (uint32_t left = mask; complete && left != 0; left &= left - 1) {
    const auto other = static_cast<uint32_t>(std::countr_zero(left));
    const Thread& thread = *threads_[number * kLanes + other];
    complete = thread.mask == mask && same_place(thread, me);
  }
  if (complete) {
    warp.waiting &= ~mask;
    exchange(mask, warp.packets);
    wake(number, mask);
  }
  if (Fiber& other = next(); &other != &me.fiber) {
    me.fiber.switch_to(other);
  }
}

void Machine::thread_main() {
  Machine& self = machine;
  const uint32_t index = threadIdx.x;
  try {
    self.body_(self.argument_);
  } catch (const std::exception& error) {
    self.error_ = std::make_exception_ptr(
        Error(self.block_name() + ", thread " + std::to_string(index) + ": " + error.what()));
  }
  Thread& me = *self.threads_[index];
  me.state = Thread::State::kEnded;
  me.fiber.end_in(self.next());
}

void Machine::run_block() {
  std::memset(shared_.get(), kPoison, launch_->shared_bytes);
  at_barrier_ = 0;
  votes_ = 0;
  for (uint32_t index = 0; index < blockDim.x; ++index) {
    Thread& thread = *threads_[index];
    thread.fiber.prepare(&thread_main);
    thread.copies.clear();
    thread.copy_groups = 0;
  }
  for (uint32_t warp = 0; warp < blockDim.x / kLanes; ++warp) {
    warps_[warp].waiting = 0;
    warps_[warp].ready = 0;
    wake(warp, ~0u);
  }
  host_.switch_to(next());
  if (error_) {
    ready_warps_ = 0;
    std::rethrow_exception(std::exchange(error_, nullptr));
  }
}

void Machine::run(const Launch& launch, void (*body)(const void*), const void* argument) {
  launch_ = &launch;
  body_ = body;
  argument_ = argument;
  order_ = current_order();
  random_.seed(static_cast<uint32_t>(order_.seed % 0x7ffffffe + 1));
  gridDim = launch.grid;
  blockDim = dim3(launch.block);
  threadIdx = dim3(0, 0, 0);
  while (threads_.size() < launch.block) {
    threads_.push_back(std::make_unique<Thread>(threads_.size()));
  }
  shared_.reset(::operator new(launch.shared_bytes, std::align_val_t(16)));

  std::vector<uint64_t> blocks(uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z);
  std::iota(blocks.begin(), blocks.end(), uint64_t{0});
  if (order_.kind == Order::Kind::kReverse) {
    std::reverse(blocks.begin(), blocks.end());
  } else if (order_.kind == Order::Kind::kRandom) {
    std::shuffle(blocks.begin(), blocks.end(), random_);
  }
  for (const uint64_t block : blocks) {
    const uint64_t row = block / launch.grid.x;
    blockIdx = dim3(static_cast<uint32_t>(block % launch.grid.x),
                    static_cast<uint32_t>(row % launch.grid.y),
                    static_cast<uint32_t>(row / launch.grid.y));
    run_block();
  }
}

void check_sizes(const Launch& launch) {
  const char* reason = nullptr;
  if (launch.block == 0 || launch.block > kMaxBlock || launch.block % kLanes != 0) {
    reason = "a block is a multiple of 32 threads, at most 1024";
  } else if (launch.grid.x > 0x7fffffffu || launch.grid.y > 65535 || launch.grid.z > 65535) {
    reason = "a grid is at most 2147483647 x 65535 x 65535 blocks";
  } else if (launch.shared_bytes > kMaxSharedBytes) {
    reason = "shared memory is at most 101376 bytes";
  }
  if (reason != nullptr) {
    std::ostringstream message;
    message << "launching " << launch.kernel << " with grid " << launch.grid.x << " x "
            << launch.grid.y << " x " << launch.grid.z << ", block " << launch.block << " and "
            << launch.shared_bytes << " bytes of shared memory failed: " << reason;
    throw std::runtime_error(message.str());
  }
}

std::mutex& launching() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

void set_order(std::string_view order) {
  const std::lock_guard lock(launching());
  current_order() = parse_order(order);
}

void run(const Launch& launch, void (*thread)(const void*), const void* argument) {
  check_sizes(launch);
  const std::lock_guard lock(launching());
  machine.run(launch, thread, argument);
}

void* shared_memory() { return machine.shared(); }

size_t shared_bytes() { return machine.shared_bytes(); }

int block_barrier(const char* call, bool vote, Where where) {
  return machine.barrier(call, vote, where);
}

void warp_rendezvous(const char* call, uint32_t mask, Exchange exchange, void* packet,
                     Where where) {
  machine.rendezvous(call, mask, exchange, packet, where);
}

// ---- cp.async ----------------------------------------------------------------------------------

void copy_begin(void* shared, const void* global) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    throw Error("cp.async needs addresses that are multiples of 16");
  }
  traffic.read += sizeof Copy::bytes;
  Thread& me = machine.current();
  Copy& copy = me.copies.emplace_back(Copy{shared, global, me.copy_groups, {}});
  std::memcpy(copy.bytes, global, sizeof copy.bytes);
  // From now on the old contents may be overwritten at any time: whoever still reads them is late.
  std::memset(shared, kPoison, sizeof copy.bytes);
}

void copy_commit() { ++machine.current().copy_groups; }

void copy_wait(uint32_t pending_groups) {
  Thread& me = machine.current();
  auto copy = me.copies.begin();
  for (; copy != me.copies.end() && copy->group + pending_groups < me.copy_groups; ++copy) {
    if (std::memcmp(copy->global, copy->bytes, sizeof copy->bytes) != 0) {
      throw Error("the source of a cp.async changed while the copy was under way");
    }
    std::memcpy(copy->shared, copy->bytes, sizeof copy->bytes);
  }
  me.copies.erase(me.copies.begin(), copy);
}

}  // namespace simt
