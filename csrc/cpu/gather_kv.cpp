// See aircache/gather_kv.h.
//
// Bytes: every survivor's key and value read and written once. Schedule: a task is one (layer,
// batch row, KV head); rows are copied by memmove, which picks the instruction set itself.
#include "aircache/gather_kv.h"

#include "common/check_sizes.h"
#include "cpu/kept_tokens.h"
#include "cpu/move_rows.h"

namespace aircache::cpu {

void gather_kv(const GatherKvParams& p, const Parallel& parallel) {
  check_kv_sizes(p);
  check_kept(p, /*ascending=*/false);
  const int64_t element = element_size(p.dtype);
  for_each_kept_head(p, parallel, [&](const KeptHead& kept) {
    const auto gather = [&](const ConstHeads& source, const MutableHeads& target, int64_t dim) {
      const Rows<const std::byte> from = {source.row(kept.batch, kept.head, 0, element),
                                          source.row_stride * element, dim * element};
      const Rows<std::byte> to = {target.row(kept.batch, kept.head, 0, element),
                                  target.row_stride * element, dim * element};
      move_rows(from, to, kept.positions, kept.n);
      for (int64_t j = kept.n; j < p.kept[kept.layer].capacity; ++j) {
        std::memset(to.first + j * to.stride, 0, static_cast<size_t>(to.bytes));
      }
    };
    gather(p.key[kept.layer], p.key_out[kept.layer], p.key_dim);
    gather(p.value[kept.layer], p.value_out[kept.layer], p.value_dim);
  });
}

}  // namespace aircache::cpu
