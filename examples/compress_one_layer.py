"""One layer's cache, compressed: what goes in, what comes out."""

import torch

import aircache_ext

BATCH, KV_HEADS, QUERY_HEADS, SEQ, DIM, WINDOW = 2, 4, 28, 1200, 128, 32

torch.manual_seed(0)
keys = torch.randn(BATCH, KV_HEADS, SEQ, DIM)
values = torch.randn(BATCH, KV_HEADS, SEQ, DIM)
# The model's own queries of the last tokens, rotated as the attention used them.
q_window = torch.randn(BATCH, QUERY_HEADS, WINDOW, DIM)

# Where the image is: 16 tokens of system prompt, 1,152 of image, 32 of question.
visual = torch.zeros(BATCH, SEQ, dtype=torch.bool)
visual[:, 16:-WINDOW] = True

# The second prompt is shorter: its first 200 columns are padding, and no image.
valid = torch.ones(BATCH, SEQ, dtype=torch.bool)
valid[1, :200] = False
visual[1, :216] = False

kept = aircache_ext.compress(keys, values, q_window, visual=visual, valid=valid, retention=0.1)

print("keys   ", list(keys.shape), "->", list(kept.keys.shape))
print("values ", list(values.shape), "->", list(kept.values.shape))
for row, count in enumerate(kept.counts.tolist()):
    positions = kept.indices[row, 0, :count]  # ascending, in the original cache
    images = int(visual[row, positions].sum())
    print(f"row {row}: {images} of {int(visual[row].sum())} visual tokens, {count} slots in use")

# All text stays; survivors are bit for bit what they were; beyond the count there are zeros.
count = int(kept.counts[1])
positions = kept.indices[1, 0, :count]
assert valid[1, positions].all() and (~visual & valid)[1].sum() == (~visual[1, positions]).sum()
assert torch.equal(kept.keys[1, :, :count], keys[1, :, positions])
assert not kept.keys[1, :, count:].any()
