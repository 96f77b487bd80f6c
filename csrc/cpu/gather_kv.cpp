// See aircache/gather_kv.h.
//
// Bytes: every survivor's key and value read and written once. Schedule: a task is one (layer, batch
// row, KV head); rows are copied by memcpy, which picks the instruction set itself.
#include "aircache/gather_kv.h"

#include "common/check_sizes.h"
#include "cpu/check_kept.h"
#include "cpu/move_rows.h"

namespace aircache::cpu {
namespace {

void gather_head(const ConstHeads& source, const MutableHeads& target, int64_t batch, int64_t head,
                 int64_t dim, int64_t element, const int64_t* indices, int64_t n,
                 int64_t capacity) {
  std::byte* out = target.row(batch, head, 0, element);
  const int64_t out_stride = target.row_stride * element;
  move_rows(source.row(batch, head, 0, element), source.row_stride * element, out, out_stride,
            dim * element, indices, n);
  for (int64_t j = n; j < capacity; ++j) {
    std::memset(out + j * out_stride, 0, static_cast<size_t>(dim * element));
  }
}

}  // namespace

void gather_kv(const GatherKvParams& p, const Parallel& parallel) {
  check_kv_sizes(p);
  check_kept(p, /*ascending=*/false);
  const int64_t element = element_size(p.dtype);
  parallel.run(p.layers * p.batch * p.kv_heads, [&](int64_t task, int) {
    const int64_t layer = task / (p.batch * p.kv_heads);
    const int64_t batch = task / p.kv_heads % p.batch;
    const int64_t head = task % p.kv_heads;
    const KeptTokens& kept = p.kept[layer];
    const int64_t n = filled(kept, batch);
    const int64_t index_head = p.index_heads == 1 ? 0 : head;
    const int64_t* indices = kept.indices + (batch * p.index_heads + index_head) * kept.capacity;
    gather_head(p.key[layer], p.key_out[layer], batch, head, p.key_dim, element, indices, n,
                kept.capacity);
    gather_head(p.value[layer], p.value_out[layer], batch, head, p.value_dim, element, indices, n,
                kept.capacity);
  });
}

}  // namespace aircache::cpu
