// CUDA's barriers, shuffles and votes. Each knows where it is called: a call that others don't reach
// is reported with its line.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>

#include "executor.h"

// ---- the block ---------------------------------------------------------------------------------

inline void __syncthreads(simt::Where where = simt::Where::current()) {
  simt::block_barrier("__syncthreads", false, where);
}
inline int __syncthreads_count(int predicate, simt::Where where = simt::Where::current()) {
  return simt::block_barrier("__syncthreads_count", predicate != 0, where);
}
inline int __syncthreads_or(int predicate, simt::Where where = simt::Where::current()) {
  return simt::block_barrier("__syncthreads_or", predicate != 0, where) != 0;
}
inline int __syncthreads_and(int predicate, simt::Where where = simt::Where::current()) {
  return simt::block_barrier("__syncthreads_and", predicate == 0, where) == 0;
}

// ---- the warp ----------------------------------------------------------------------------------

namespace simt {

template <class T>
concept ShuffleValue =
    std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, long> ||
    std::same_as<T, unsigned long> || std::same_as<T, long long> ||
    std::same_as<T, unsigned long long> || std::same_as<T, float> || std::same_as<T, double>;

inline int lane() { return static_cast<int>(threadIdx.x % 32); }

// This lane gets the value that lane `source` brings.
template <ShuffleValue T>
T shuffle(const char* call, uint32_t mask, T value, int source, Where where) {
  struct Packet {
    T value, result;
    uint32_t source;
  } packet{value, value, static_cast<uint32_t>(source)};
  warp_rendezvous(
      call, mask,
      [](uint32_t lanes, void* const* packets) {
        for (uint32_t left = lanes; left != 0; left &= left - 1) {
          Packet& to = *static_cast<Packet*>(packets[std::countr_zero(left)]);
          if ((lanes >> to.source & 1u) == 0) {
            throw Error("a shuffle reads a lane that is not in its mask");
          }
          to.result = static_cast<const Packet*>(packets[to.source])->value;
        }
      },
      &packet, where);
  return packet.result;
}

inline uint32_t ballot(const char* call, uint32_t mask, bool predicate, Where where) {
  struct Packet {
    bool predicate;
    uint32_t result;
  } packet{predicate, 0};
  warp_rendezvous(
      call, mask,
      [](uint32_t lanes, void* const* packets) {
        uint32_t result = 0;
        for (uint32_t left = lanes; left != 0; left &= left - 1) {
          const int lane = std::countr_zero(left);
          result |= uint32_t{static_cast<Packet*>(packets[lane])->predicate} << lane;
        }
        for (uint32_t left = lanes; left != 0; left &= left - 1) {
          static_cast<Packet*>(packets[std::countr_zero(left)])->result = result;
        }
      },
      &packet, where);
  return packet.result;
}

}  // namespace simt

// Lanes exchange within groups of `width`. Beyond the group a lane gets its own value, except that
// __shfl_xor_sync may read an earlier group, as on the device.
template <simt::ShuffleValue T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              simt::Where where = simt::Where::current()) {
  const int group = simt::lane() & ~(width - 1);
  return simt::shuffle("__shfl_sync", mask, value, group | (source & (width - 1)), where);
}
template <simt::ShuffleValue T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 simt::Where where = simt::Where::current()) {
  const int source = simt::lane() - static_cast<int>(delta);
  const bool inside = source >= (simt::lane() & ~(width - 1));
  return simt::shuffle("__shfl_up_sync", mask, value, inside ? source : simt::lane(), where);
}
template <simt::ShuffleValue T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   simt::Where where = simt::Where::current()) {
  const int source = simt::lane() + static_cast<int>(delta);
  const bool inside = source <= (simt::lane() | (width - 1));
  return simt::shuffle("__shfl_down_sync", mask, value, inside ? source : simt::lane(), where);
}
template <simt::ShuffleValue T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  simt::Where where = simt::Where::current()) {
  const int source = simt::lane() ^ lane_mask;
  const bool inside = source <= (simt::lane() | (width - 1));
  return simt::shuffle("__shfl_xor_sync", mask, value, inside ? source : simt::lane(), where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              simt::Where where = simt::Where::current()) {
  return simt::ballot("__ballot_sync", mask, predicate != 0, where);
}
inline int __any_sync(unsigned mask, int predicate, simt::Where where = simt::Where::current()) {
  return simt::ballot("__any_sync", mask, predicate != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Where where = simt::Where::current()) {
  return simt::ballot("__all_sync", mask, predicate == 0, where) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, simt::Where where = simt::Where::current()) {
  simt::warp_rendezvous("__syncwarp", mask, [](uint32_t, void* const*) {}, nullptr, where);
}
