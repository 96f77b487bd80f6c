// The CPU executor by itself: executor_test NAME runs one test, and returns 0 if it held. The first
// half shows that sound kernels give the right results, in every order of threads; the second that
// the usual mistakes don't go unseen.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "device/cp_async.cuh"
#include "device/launch.cuh"
#include "device/mma.cuh"
#include "device/warp.cuh"

namespace {

using namespace aircache::cuda;

int failures = 0;

void expect(bool held, const std::string& what) {
  if (!held) {
    std::cerr << "not so: " << what << "\n";
    ++failures;
  }
}

void in_every_order(const std::function<void(const std::string&)>& test) {
  for (const std::string order : {"forward", "reverse", "random:1", "random:2"}) {
    simt::set_order(order);
    test(order);
  }
}

// The launch throws an Error whose text has all of these parts.
void expect_error(const std::vector<std::string>& parts, const std::function<void()>& start) {
  in_every_order([&](const std::string& order) {
    try {
      start();
    } catch (const std::runtime_error& error) {
      for (const std::string& part : parts) {
        expect(std::string(error.what()).find(part) != std::string::npos,
               "\"" + part + "\" in the error \"" + error.what() + "\", " + order);
      }
      return;
    }
    expect(false, "an error with \"" + parts[0] + "\", " + order);
  });
}

// ---- block -------------------------------------------------------------------------------------

constexpr uint32_t kBlock = 256;

struct ReduceArgs {
  const float* in;  // [blocks, kBlock]
  float* out;       // [blocks]
  bool barriers = true;
};

// A tree in shared memory; without its barriers it is the mistake of missing_barrier().
__global__ void __launch_bounds__(kBlock) reduce_kernel(const __grid_constant__ ReduceArgs args) {
  float* partial = shared_memory<float>();
  partial[threadIdx.x] = args.in[blockIdx.x * kBlock + threadIdx.x];
  for (uint32_t half = kBlock / 2; half > 0; half /= 2) {
    if (args.barriers) {
      __syncthreads();
    }
    if (threadIdx.x < half) {
      partial[threadIdx.x] += partial[threadIdx.x + half];
    }
  }
  if (threadIdx.x == 0) {
    args.out[blockIdx.x] = partial[0];
  }
}

std::vector<float> reduce(bool barriers) {
  constexpr uint32_t kBlocks = 3;
  std::vector<float> in(kBlocks * kBlock), out(kBlocks);
  for (size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<float>(i);
  }
  launch("reduce", reduce_kernel, {kBlocks, kBlock, kBlock * sizeof(float)}, nullptr,
         ReduceArgs{in.data(), out.data(), barriers});
  return out;
}

void block_reduction() {
  in_every_order([](const std::string& order) {
    expect(reduce(true) == std::vector<float>{32640, 98176, 163712}, "the sums, " + order);
  });
}

struct VoteArgs {
  int* out;  // [3, kBlock]
};

__global__ void block_votes_kernel(const __grid_constant__ VoteArgs args) {
  int* out = args.out + threadIdx.x;
  out[0] = __syncthreads_count(threadIdx.x % 3 == 0);
  out[kBlock] = __syncthreads_or(threadIdx.x == 77) + 2 * __syncthreads_or(0);
  out[2 * kBlock] = __syncthreads_and(1) + 2 * __syncthreads_and(threadIdx.x != 5);
}

void block_votes() {
  in_every_order([](const std::string& order) {
    std::vector<int> out(3 * kBlock);
    launch("block_votes", block_votes_kernel, {1, kBlock}, nullptr, VoteArgs{out.data()});
    for (uint32_t i = 0; i < kBlock; ++i) {
      expect(out[i] == 86 && out[i + kBlock] == 1 && out[i + 2 * kBlock] == 1, "votes, " + order);
    }
  });
}

// ---- warp --------------------------------------------------------------------------------------

struct WarpArgs {
  int64_t* out;  // [results, 64]
};

__global__ void shuffles_kernel(const __grid_constant__ WarpArgs args) {
  const auto t = static_cast<int>(threadIdx.x);
  int64_t* out = args.out + t;
  out[0] = __shfl_sync(kAllLanes, t, (t + 5) % 32);
  out[64] = __shfl_sync(kAllLanes, t, 1, 8);
  out[128] = __shfl_up_sync(kAllLanes, static_cast<uint32_t>(t), 3);
  out[192] = __shfl_down_sync(kAllLanes, int64_t{t} << 33, 2, 16);
  out[256] = static_cast<int64_t>(__shfl_xor_sync(kAllLanes, static_cast<double>(t) + 0.5, 8) * 2);
  out[320] = static_cast<int64_t>(warp_sum(static_cast<float>(t)));
  out[384] = __shfl_xor_sync(kAllLanes, t, 8, 8);  // the upper of two groups reads the lower
}

void shuffles() {
  in_every_order([](const std::string& order) {
    std::vector<int64_t> out(7 * 64);
    launch("shuffles", shuffles_kernel, {1, 64}, nullptr, WarpArgs{out.data()});
    for (int64_t t = 0; t < 64; ++t) {
      const int64_t warp = t / 32 * 32, lane = t % 32;
      const std::vector<int64_t> wanted = {warp + (lane + 5) % 32,
                                           t / 8 * 8 + 1,
                                           lane < 3 ? t : t - 3,
                                           (lane % 16 < 14 ? t + 2 : t) << 33,
                                           (t ^ 8) * 2 + 1,
                                           warp * 32 + 496,
                                           (lane & 8) == 0 ? t : t - 8};
      for (size_t i = 0; i < wanted.size(); ++i) {
        expect(out[i * 64 + static_cast<size_t>(t)] == wanted[i],
               "shuffle " + std::to_string(i) + " of thread " + std::to_string(t) + ", " + order);
      }
    }
  });
}

__global__ void votes_and_scan_kernel(const __grid_constant__ WarpArgs args) {
  const auto t = static_cast<int>(threadIdx.x);
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t set = __ballot_sync(kAllLanes, t % 3 == 0);
  args.out[t] = __popc(set & ((1u << lane) - 1));  // the rank among those that are set
  args.out[64 + t] = __any_sync(kAllLanes, t == 40) + 2 * __all_sync(kAllLanes, t < 40);
  int scan = t;
  for (uint32_t distance = 1; distance < kWarp; distance *= 2) {
    const int lower = __shfl_up_sync(kAllLanes, scan, distance);
    scan += lane >= distance ? lower : 0;
  }
  args.out[128 + t] = scan;
}

void votes_and_scan() {
  in_every_order([](const std::string& order) {
    std::vector<int64_t> out(3 * 64);
    launch("votes_and_scan", votes_and_scan_kernel, {1, 64}, nullptr, WarpArgs{out.data()});
    for (size_t warp = 0; warp < 2; ++warp) {
      int64_t rank = 0, sum = 0;
      for (size_t t = 32 * warp; t < 32 * warp + 32; ++t) {
        sum += static_cast<int64_t>(t);
        expect(out[t] == rank, "ranks, " + order);
        expect(out[64 + t] == (warp == 0 ? 2 : 1), "any and all, " + order);
        expect(out[128 + t] == sum, "scan, " + order);
        rank += t % 3 == 0 ? 1 : 0;
      }
    }
  });
}

// The halves of a warp in different branches, and the lower meets more often.
__global__ void part_of_a_warp_kernel(const __grid_constant__ WarpArgs args) {
  const auto t = static_cast<int>(threadIdx.x);
  int sum = t;
  if (t % 32 < 16) {
    for (int distance = 1; distance < 16; distance *= 2) {
      sum += __shfl_xor_sync(0x0000ffffu, sum, distance);
    }
  } else {
    sum = static_cast<int>(__ballot_sync(0xffff0000u, t % 2));
  }
  __syncwarp();
  args.out[t] = sum;
}

void part_of_a_warp() {
  in_every_order([](const std::string& order) {
    std::vector<int64_t> out(32);
    launch("part_of_a_warp", part_of_a_warp_kernel, {1, 32}, nullptr, WarpArgs{out.data()});
    for (size_t t = 0; t < 32; ++t) {
      expect(out[t] == (t < 16 ? 120 : static_cast<int>(0xaaaa0000u)), "halves, " + order);
    }
  });
}

// ---- 16-bit numbers ----------------------------------------------------------------------------

void half_values() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const auto fraction = static_cast<double>(bits & 0x3ff);
    const double magnitude = exponent == 31  ? (fraction == 0 ? INFINITY : NAN)
                             : exponent == 0 ? std::ldexp(fraction, -24)
                                             : std::ldexp(1024 + fraction, exponent - 25);
    const double wanted = bits < 0x8000 ? magnitude : -magnitude;
    const double got = half_bits_to_float(static_cast<uint16_t>(bits));
    expect(std::isnan(wanted) ? std::isnan(got)
                              : got == wanted && std::signbit(got) == std::signbit(wanted),
           "the value of half " + std::to_string(bits));
  }
}

// Bits of small numbers, exact in either format: multiples of 1/8 below 4 in magnitude.
uint16_t bits_of(Float16, float value) {
  if (value == 0) {
    return 0;
  }
  int exponent = 0;
  const float fraction = std::frexp(std::abs(value), &exponent);  // in [0.5, 1)
  const auto bits = static_cast<uint32_t>((exponent + 14) << 10) +
                    static_cast<uint32_t>((fraction * 2 - 1) * 1024);
  return static_cast<uint16_t>(bits | (value < 0 ? 0x8000u : 0u));
}
uint16_t bits_of(BFloat16, float value) {
  return static_cast<uint16_t>(__float_as_uint(value) >> 16);
}

struct MmaArgs {
  const uint16_t* a;  // [16, 8]
  const uint16_t* b;  // [8, 8]
  float* c;           // [16, 8]
};

// Fragments are loaded element by element, as mma.cuh describes them.
template <class Number>
__global__ void mma_kernel(const __grid_constant__ MmaArgs args) {
  const uint32_t row = threadIdx.x / 4;
  const uint32_t pair = threadIdx.x % 4 * 2;
  const auto a_pair = [&](uint32_t i, uint32_t k) {
    return args.a[i * 8 + k] | static_cast<uint32_t>(args.a[i * 8 + k + 1]) << 16;
  };
  const auto b_pair = [&](uint32_t k, uint32_t j) {
    return args.b[k * 8 + j] | static_cast<uint32_t>(args.b[(k + 1) * 8 + j]) << 16;
  };
  const uint32_t a[2] = {a_pair(row, pair), a_pair(row + 8, pair)};
  float c[4];
  mma_16x8x8(Number{}, c, a, b_pair(pair, row));
  float* upper = args.c + row * 8 + pair;
  float* lower = upper + 64;
  upper[0] = c[0];
  upper[1] = c[1];
  lower[0] = c[2];
  lower[1] = c[3];
}

template <class Number>
void mma_of(const std::string& name) {
  std::mt19937 random(1);
  const auto draw = [&random] { return static_cast<float>(random() % 63) / 8 - 3.875f; };
  float a[16][8], b[8][8], wanted[16][8] = {};
  uint16_t a_bits[128], b_bits[64];
  std::vector<float> c(128);
  for (size_t i = 0; i < 128; ++i) {
    a_bits[i] = bits_of(Number{}, a[i / 8][i % 8] = draw());
  }
  for (size_t i = 0; i < 64; ++i) {
    b_bits[i] = bits_of(Number{}, b[i / 8][i % 8] = draw());
  }
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      for (int k = 0; k < 8; ++k) {
        wanted[i][j] += a[i][k] * b[k][j];  // exact: all are multiples of 1/64 below 512
      }
    }
  }
  launch("mma", mma_kernel<Number>, {1, 32}, nullptr, MmaArgs{a_bits, b_bits, c.data()});
  expect(std::memcmp(c.data(), wanted, sizeof wanted) == 0, "the product of " + name);
}

// 1 and seven times 2^-power, which fp32 would add up and round.
template <class Number>
float cut_sum(int power) {
  uint16_t a_bits[128] = {}, b_bits[64] = {};
  std::vector<float> c(128);
  for (size_t k = 0; k < 8; ++k) {
    a_bits[k] = bits_of(Number{}, k == 3 ? 1.0f : std::ldexp(-1.0f, -12));
    b_bits[k * 8] = bits_of(Number{}, k == 3 ? 1.0f : std::ldexp(-1.0f, 12 - power));
  }
  launch("mma", mma_kernel<Number>, {1, 32}, nullptr, MmaArgs{a_bits, b_bits, c.data()});
  return c[0];
}

void mma() {
  in_every_order([](const std::string& order) {
    mma_of<Float16>("fp16, " + order);
    mma_of<BFloat16>("bf16, " + order);
  });
  // Of 2^-25 nothing is kept; of 7 * 2^-24 = 3.5 * 2^-23 the half goes at the end.
  for (const float sum : {cut_sum<Float16>(25), cut_sum<BFloat16>(25)}) {
    expect(sum == 1, "what lies two bits below 1 is cut off");
  }
  for (const float sum : {cut_sum<Float16>(24), cut_sum<BFloat16>(24)}) {
    expect(sum == 1 + std::ldexp(3.0f, -23), "what lies one bit below 1 is added, then cut off");
  }
}

// ---- copies ------------------------------------------------------------------------------------

constexpr uint32_t kTiles = 5, kTile = 128;  // floats

struct CopyArgs {
  float* in;  // [kTiles, kTile]
  float* out;
  int pending = 1;          // of the two groups under way, how many a tile doesn't wait for
  bool overwrites = false;  // `in`, while it is being copied
};

// Two tiles of shared memory: one arrives while the other is read.
__global__ void copies_kernel(const __grid_constant__ CopyArgs args) {
  float* tiles = shared_memory<float>();
  const uint32_t own = threadIdx.x * 4;
  const auto begin = [&](uint32_t tile) {
    if (tile < kTiles) {
      cp_async_16(tiles + tile % 2 * kTile + own, args.in + tile * kTile + own);
    }
    cp_async_commit();
  };
  begin(0);
  for (uint32_t tile = 0; tile < kTiles; ++tile) {
    begin(tile + 1);
    if (args.overwrites) {
      args.in[tile * kTile + own] = -1;
    }
    args.pending == 1 ? cp_async_wait<1>() : cp_async_wait<2>();
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < kTile; i += blockDim.x) {
      args.out[tile * kTile + i] = tiles[tile % 2 * kTile + i];
    }
    __syncthreads();
  }
}

std::vector<float> tiles() {
  std::vector<float> in(kTiles * kTile);
  for (size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<float>(i);
  }
  return in;
}

std::vector<float> copy(int pending, bool overwrites) {
  std::vector<float> in = tiles(), out(in.size());
  launch("copies", copies_kernel, {1, 32, 2 * kTile * sizeof(float)}, nullptr,
         CopyArgs{in.data(), out.data(), pending, overwrites});
  return out;
}

void copies() {
  in_every_order(
      [](const std::string& order) { expect(copy(1, false) == tiles(), "tiles, " + order); });
}

// ---- launches ----------------------------------------------------------------------------------

struct GridArgs {
  int* visits;    // [blocks]
  int* sequence;  // blocks in the order in which they ran
  int* count;
};

__global__ void grid_kernel(const __grid_constant__ GridArgs args) {
  if (threadIdx.x == 0) {
    const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    ++args.visits[block];
    args.sequence[(*args.count)++] = static_cast<int>(block);
  }
}

void grid() {
  std::map<std::string, std::vector<int>> sequences;
  record_launches(true);
  in_every_order([&](const std::string& order) {
    std::vector<int> visits(30), sequence(30);
    int count = 0;
    launch("grid", grid_kernel, {dim3(5, 3, 2), 64}, nullptr,
           GridArgs{visits.data(), sequence.data(), &count});
    expect(visits == std::vector<int>(30, 1), "each block once, " + order);
    sequences[order] = sequence;
  });
  expect(sequences["forward"][0] == 0 && sequences["reverse"][0] == 29, "the first block");
  expect(sequences["random:1"] != sequences["random:2"], "seeds differ");
  launch("grid", grid_kernel, {dim3(5, 0, 2), 64}, nullptr, GridArgs{});
  record_launches(false);
  expect(recorded_launches().size() == 4 && recorded_launches()[0].grid[1] == 3, "the record");
}

void refused_launches() {
  const auto with = [](const LaunchShape& shape) {
    return [shape] { launch("grid", grid_kernel, shape, nullptr, GridArgs{}); };
  };
  expect_error({"launching grid with grid 1 x 2 x 1, block 48 and 0 bytes", "multiple of 32"},
               with({dim3(1, 2), 48}));
  expect_error({"at most 1024"}, with({1, 1056}));
  expect_error({"65535"}, with({dim3(1, 65536), 32}));
  expect_error({"101376 bytes"}, with({1, 32, 101377}));
}

// ---- mistakes ----------------------------------------------------------------------------------

void missing_barrier() {
  const std::vector<float> right = reduce(true);
  int wrong = 0;
  for (const char* order : {"forward", "reverse", "random:1"}) {
    simt::set_order(order);
    const std::vector<float> got = reduce(false);
    wrong += got == right ? 0 : 1;
  }
  expect(wrong > 0, "some order shows that the barriers are missing");
}

// Each lane leaves its number to the next (or to the one before).
template <int kStep>
__global__ void missing_warp_barrier_kernel(const __grid_constant__ WarpArgs args) {
  int* numbers = shared_memory<int>();
  const auto t = static_cast<int>(threadIdx.x);
  numbers[t] = t;
  args.out[t] = numbers[(t + 32 + kStep) % 32];
}

template <int kStep>
int wrong_numbers(const char* order) {
  simt::set_order(order);
  std::vector<int64_t> out(32);
  launch("missing_warp_barrier", missing_warp_barrier_kernel<kStep>, {1, 32, 128}, nullptr,
         WarpArgs{out.data()});
  int wrong = 0;
  for (int t = 0; t < 32; ++t) {
    wrong += out[static_cast<size_t>(t)] != (t + 32 + kStep) % 32 ? 1 : 0;
  }
  return wrong;
}

// Whichever way the data goes, one of the two fixed orders is the wrong one.
void missing_warp_barrier() {
  expect(wrong_numbers<1>("forward") == 31 && wrong_numbers<1>("reverse") == 1, "from above");
  expect(wrong_numbers<-1>("forward") == 1 && wrong_numbers<-1>("reverse") == 31, "from below");
  expect(wrong_numbers<1>("random:1") > 1, "at random");
}

void missing_copy_wait() {
  in_every_order([](const std::string& order) {
    const std::vector<float> out = copy(2, false);
    expect(std::isnan(out[0]), "what is not waited for is a NaN, " + order);
  });
}

void overwritten_copy() {
  expect_error({"kernel copies, block (0, 0, 0), thread ", "source of a cp.async changed"},
               [] { copy(1, true); });
}

struct ReadArgs {
  float* out;  // [blocks]
};

// Only the first block to run could find something of another's.
__global__ void uninitialised_kernel(const __grid_constant__ ReadArgs args) {
  float* values = shared_memory<float>();
  if (threadIdx.x == 0) {
    args.out[blockIdx.x] = values[0];
    values[0] = 1;
  }
}

void uninitialised_shared() {
  in_every_order([](const std::string& order) {
    std::vector<float> out(3);
    launch("uninitialised", uninitialised_kernel, {3, 32, 16}, nullptr, ReadArgs{out.data()});
    for (const float value : out) {
      expect(std::isnan(value), "shared memory begins as NaN, " + order);
    }
  });
}

struct WaitArgs {
  int mistake;
};

__global__ void divergent_kernel(const __grid_constant__ WaitArgs args) {
  if (args.mistake == 0 && threadIdx.x == 40) {
    return;
  }
  if (args.mistake == 1 && threadIdx.x < 32) {
    __syncthreads();
  } else if (args.mistake == 2 && threadIdx.x < 32) {
    __shfl_xor_sync(kAllLanes, threadIdx.x >= 16 ? (__syncthreads(), 0) : 1, 1);
  } else {
    __syncthreads();
  }
}

void divergent_barrier() {
  const auto with = [](int mistake) {
    return
        [mistake] { launch("divergent", divergent_kernel, {1, 64}, nullptr, WaitArgs{mistake}); };
  };
  expect_error({"kernel divergent, block (0, 0, 0): ", "thread 40: ended",
                "threads 0-39, 41-63: at __syncthreads (", "executor_test.cpp:"},
               with(0));
  expect_error({"threads 0-31: at __syncthreads (", "threads 32-63: at __syncthreads ("}, with(1));
  expect_error({"threads 0-15: at __shfl_xor_sync with mask 0xffffffff (",
                "threads 16-31: at __syncthreads ("},
               with(2));
}

__global__ void absent_lane_kernel(const __grid_constant__ WaitArgs args) {
  const uint32_t lane = threadIdx.x % kWarp;
  if (args.mistake == 0 && lane >= 20) {
    return;
  }
  if (args.mistake == 1 && lane >= 20) {
    __ballot_sync(kAllLanes, 1);
    return;
  }
  // 2: reads beyond the mask; 3: calls from beyond it.
  const uint32_t mask = args.mistake < 2 ? kAllLanes : 0xffffu;
  if (args.mistake < 2 || lane < (args.mistake == 2 ? 16 : 17)) {
    __shfl_sync(mask, 1, args.mistake == 2 ? 16 : 0);
  }
}

void absent_lane() {
  const auto with = [](int mistake) {
    return [mistake] {
      launch("absent_lane", absent_lane_kernel, {2, 64}, nullptr, WaitArgs{mistake});
    };
  };
  expect_error({"kernel absent_lane, block (", "threads 20-31", "threads 0-19",
                ": at __shfl_sync with mask 0xffffffff"},
               [] { launch("absent_lane", absent_lane_kernel, {1, 32}, nullptr, WaitArgs{0}); });
  expect_error({"threads 20-31, 52-63: at __ballot_sync", "threads 0-19, 32-51: at __shfl_sync"},
               with(1));
  expect_error({"a shuffle reads a lane that is not in its mask"}, with(2));
  expect_error({"a lane that is not in its mask", "__shfl_sync"}, with(3));
}

// What a failed kernel leaves behind does not disturb the next.
void after_an_error() {
  for (int mistake = 0; mistake < 3; ++mistake) {
    try {
      launch("divergent", divergent_kernel, {1, 64}, nullptr, WaitArgs{mistake});
      expect(false, "an error");
    } catch (const simt::Error&) {
    }
    block_reduction();
    votes_and_scan();
    copies();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, void (*)()> tests = {{"block_reduction", block_reduction},
                                                   {"block_votes", block_votes},
                                                   {"shuffles", shuffles},
                                                   {"votes_and_scan", votes_and_scan},
                                                   {"part_of_a_warp", part_of_a_warp},
                                                   {"half_values", half_values},
                                                   {"mma", mma},
                                                   {"copies", copies},
                                                   {"grid", grid},
                                                   {"refused_launches", refused_launches},
                                                   {"missing_barrier", missing_barrier},
                                                   {"missing_warp_barrier", missing_warp_barrier},
                                                   {"missing_copy_wait", missing_copy_wait},
                                                   {"overwritten_copy", overwritten_copy},
                                                   {"uninitialised_shared", uninitialised_shared},
                                                   {"divergent_barrier", divergent_barrier},
                                                   {"absent_lane", absent_lane},
                                                   {"after_an_error", after_an_error}};
  const auto test = tests.find(argc == 2 ? argv[1] : "");
  if (test == tests.end()) {
    std::cerr << "usage: executor_test NAME\n";
    return 2;
  }
  test->second();
  return failures == 0 ? 0 : 1;
}
