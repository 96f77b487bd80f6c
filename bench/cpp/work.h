// The work of steps that more than one benchmark counts.
#pragma once

#include "aircache/roofline.h"
#include "problem.h"
#include "result.h"

namespace aircache::bench {

/// Every visual key is read once; the operations are the elite rows' dot products with them (the
/// exponentials are not counted).
template <class Memory>
Work scoring_work(const Problem<Memory>& problem) {
  const Case& shape = problem.shape;
  const double dots = static_cast<double>(problem.elite_tokens() * shape.query_heads) *
                      static_cast<double>(shape.n_visual());
  return {
      .bytes_read =
          static_cast<double>(score_bytes(shape.layers, shape.batch, shape.kv_heads,
                                          shape.n_visual(), shape.head_dim, problem.key.element())),
      .bytes_written = static_cast<double>(problem.scores.bytes()),
      .flops = 2 * dots * static_cast<double>(shape.head_dim),
  };
}

/// Every survivor's key and value is read and written once.
template <class Memory>
Work moving_work(const Problem<Memory>& problem) {
  const Case& shape = problem.shape;
  const double bytes =
      static_cast<double>(gather_bytes(problem.kept_tokens(), shape.kv_heads, shape.head_dim,
                                       shape.head_dim, problem.key.element()));
  return {.bytes_read = bytes / 2, .bytes_written = bytes / 2};
}

}  // namespace aircache::bench
