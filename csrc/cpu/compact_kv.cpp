// See aircache/compact_kv.h.
//
// Bytes: every survivor that moves is read and written once; the text before the first visual token
// stays where it is. Schedule: a task is one (layer, batch row, KV head) and walks front to back.
#include "aircache/compact_kv.h"

#include "common/check_sizes.h"
#include "cpu/check_kept.h"
#include "cpu/move_rows.h"

namespace aircache::cpu {

void compact_kv_(const CompactKvParams& p, const Parallel& parallel) {
  check_kv_sizes(p);
  check_kept(p, /*ascending=*/true);
  const int64_t element = element_size(p.dtype);
  parallel.run(p.layers * p.batch * p.kv_heads, [&](int64_t task, int) {
    const int64_t layer = task / (p.batch * p.kv_heads);
    const int64_t batch = task / p.kv_heads % p.batch;
    const int64_t head = task % p.kv_heads;
    const KeptTokens& kept = p.kept[layer];
    const int64_t index_head = p.index_heads == 1 ? 0 : head;
    const int64_t* indices = kept.indices + (batch * p.index_heads + index_head) * kept.capacity;
    const auto compact = [&](const MutableHeads& heads, int64_t dim) {
      std::byte* rows = heads.row(batch, head, 0, element);
      move_rows(rows, heads.row_stride * element, rows, heads.row_stride * element, dim * element,
                indices, filled(kept, batch));
    };
    compact(p.key[layer], p.key_dim);
    compact(p.value[layer], p.value_dim);
  });
}

}  // namespace aircache::cpu
