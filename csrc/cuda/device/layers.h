// Tables of layers in kernel parameters, so that one launch serves a whole model.
#pragma once

#include <algorithm>
#include <cstdint>

namespace aircache::cuda {

/// Layers a launch can hold: kernel parameters end at 32,764 bytes, and gather_kv's layer, the
/// largest, takes 160.
inline constexpr int64_t kMaxLayers = 128;

/// One T per layer.
template <class T>
struct LayerTable {
  T layer[kMaxLayers];

  /// Layers [first, first + count) of a longer list.
  void fill(const T* all, int64_t first, int64_t count) { std::copy_n(all + first, count, layer); }
};

/// body(first, count) for one launch after another: up to kMaxLayers layers each.
template <class Body>
void for_each_launch(int64_t layers, const Body& body) {
  for (int64_t first = 0; first < layers; first += kMaxLayers) {
    body(first, std::min(kMaxLayers, layers - first));
  }
}

}  // namespace aircache::cuda
