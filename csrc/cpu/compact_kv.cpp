// See aircache/compact_kv.h.
//
// Bytes: every survivor that moves is read and written once; the text before the first visual token
// stays where it is. Schedule: a task is one (layer, batch row, KV head) and walks front to back.
#include "aircache/compact_kv.h"

#include "common/check_sizes.h"
#include "cpu/kept_tokens.h"
#include "cpu/move_rows.h"

namespace aircache::cpu {

void compact_kv_(const CompactKvParams& p, const Parallel& parallel) {
  check_kv_sizes(p);
  check_kept(p, /*ascending=*/true);
  const int64_t element = element_size(p.dtype);
  for_each_kept_head(p, parallel, [&](const KeptHead& kept) {
    const auto compact = [&](const MutableHeads& heads, int64_t dim) {
      const Rows<std::byte> rows = {heads.row(kept.batch, kept.head, 0, element),
                                    heads.row_stride * element, dim * element};
      move_rows({rows.first, rows.stride, rows.bytes}, rows, kept.positions, kept.n);
    };
    compact(p.key[kept.layer], p.key_dim);
    compact(p.value[kept.layer], p.value_dim);
  });
}

}  // namespace aircache::cpu
