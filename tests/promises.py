"""What every compression promises, whatever the numbers are: totals, order, and exact copies."""

import math

import torch
from torch import Tensor

from aircache_ext import reference
from cases import Inputs

INTEGERS = {2: torch.int16, 4: torch.int32}


def bits(tensor: Tensor) -> Tensor:
    """As integers, so that NaNs are equal to themselves and zeros differ by their sign."""
    return tensor.contiguous().view(INTEGERS[tensor.element_size()])


def same(a, b) -> bool:
    """Bitwise the same tensors in two lists of tuples of tensors."""
    return all(
        torch.equal(x, y) for m, n in zip(a, b, strict=True) for x, y in zip(m, n, strict=True)
    )


def total_asked(x: Inputs, row: int, layers: int, options: dict) -> int:
    """What the budgets of one row have to sum to, from ``compress_layers``' options."""
    visual, valid = x.visual[row], x.valid[row]
    n, text = int((visual & valid).sum()), int((~visual & valid).sum())
    if n == 0:
        return 0
    slots = options.get("capacity")
    slots = n + text if slots is None else slots
    slots = [slots] * layers if isinstance(slots, int) else slots
    room = sum(max(1, min(n, c - text)) for c in slots)
    window = x.queries[0].shape[2]
    if not reference.instruction_tokens(x.visual, x.valid, window)[row].any():
        return room
    if "budget" in options:
        budget = options["budget"]
        total = layers * (budget if isinstance(budget, int) else int(budget[row]))
    else:
        total = math.floor(options.get("retention", 0.1) * (layers * n) + 0.5)
    return min(max(total, layers), room)


def check_totals(x: Inputs, counts: Tensor, options: dict) -> None:
    """``counts [L, B]`` are all text and budgets that sum to the total, exactly."""
    budgets = counts.cpu() - (~x.visual & x.valid).sum(1).cpu()
    asked = [total_asked(x, row, len(counts), options) for row in range(counts.shape[1])]
    assert budgets.sum(0).tolist() == asked


def check_kept(x: Inputs, layer: int, keys, values, indices, counts) -> None:
    """One layer's slots: ascending valid positions, all text, and their rows bit for bit; then -1.

    ``keys`` and ``values`` are where the survivors stand now.
    """
    slots = indices.shape[2]
    for row, count in enumerate(counts.tolist()):
        n = min(count, slots)
        text = (~x.visual[row] & x.valid[row]).nonzero().flatten().tolist()
        for head in range(x.keys[layer].shape[1]):
            index = indices[row, min(head, indices.shape[1] - 1)]
            kept = index[:n]
            assert (index[n:] == -1).all()
            assert ((kept >= 0) & (kept < x.visual.shape[1])).all()
            assert (kept.diff() > 0).all()
            assert x.valid[row, kept].all()
            if count <= slots:
                assert set(text) <= set(kept.tolist())
            for source, target in ((x.keys, keys), (x.values, values)):
                copied = target[row, head, :n]
                assert torch.equal(bits(copied), bits(source[layer][row, head, kept]))


def check_compressed(x: Inputs, layer: int, ours) -> None:
    """:func:`check_kept` of a ``CompressedKV``, whose slots beyond the count are zeros."""
    check_kept(x, layer, *ours)
    for row, count in enumerate(ours.counts.tolist()):
        assert not ours.keys[row, :, count:].any()
        assert not ours.values[row, :, count:].any()


def check_row(batched, row: int, alone, positions: Tensor) -> None:
    """A batch's row keeps, layer by layer, what it keeps ``alone``, where its tokens stood at
    ``positions`` ``[S]`` of the batch's."""
    for one, many in zip(alone, batched, strict=True):
        n = int(one.counts)
        assert n == int(many.counts[row])
        assert torch.equal(positions[one.indices[0]], many.indices[row, :, :n])
        assert torch.equal(one.keys[0], many.keys[row, :, :n])
        assert torch.equal(one.values[0], many.values[row, :, :n])
