"""The steps of the method as typed functions over ``torch.ops.aircache``: its vocabulary.

Every function takes all layers in one call, as sequences of tensors of one shape, and composes::

    instruction_attention -> elite_window -> window_scores -> moments -> layer_budgets
        -> select -> gather_kv | compact_kv_

Apart from them stands :func:`decode_attention`, which reads one layer of what they left.

Letters in shapes: ``L`` layers, ``B`` batch, ``Hq`` query heads, ``Hkv`` KV heads, ``H`` score
heads (1, or ``Hkv`` with ``heads="per_kv_head"``), ``W`` window, ``S`` cached positions, ``D`` head
dim, ``Dv`` value dim, ``C_l`` slots of layer ``l``. Row ``w`` of a query stands at key position
``S - W + w``; query head ``h`` reads KV head ``h // (Hq // Hkv)``. ``visual`` and ``valid`` are
bool ``[B, S]``; ``valid=None`` means no padding. Queries, keys and values are fp32, fp16 or bf16,
with any strides but a contiguous last dimension.

Between ``instruction_attention`` and ``elite_window``, and after ``window_scores``, the results of
tensor-parallel ranks can be averaged: both are means over heads.

All of it is inference only. Tensors an op cannot take raise ``ValueError`` with the tensor's name,
what it is and what is needed. Equation numbers are those of AirCache, arXiv 2503.23956.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aircache_ext import _checks
from aircache_ext._choices import BudgetMode as BudgetMode
from aircache_ext._choices import Heads as Heads
from aircache_ext._choices import Softmax as Softmax

_ops = torch.ops.aircache


class ScoresAndCounts(NamedTuple):
    """``[L, B, H, S]`` float32 and ``[L, B]`` int64."""

    scores: Tensor
    counts: Tensor


class Attention(NamedTuple):
    """``[B, Hq, Dv]`` in the query's dtype and ``[B, Hq]`` float32."""

    out: Tensor
    lse: Tensor


class Moments(NamedTuple):
    """Both ``[L, B]`` float64."""

    strength: Tensor
    skewness: Tensor


def instruction_attention(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    *,
    visual: Tensor,
    valid: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """How much the last instruction token attends to every instruction token (Eq. 4).

    The instruction T of a row: positions of the window that are valid, not visual and after the
    last visual token. The softmax is over T, per head; the result is the mean over the query heads.

    Args:
        queries: ``[B, Hq, W, D]`` per layer, rotated (and normed) as the model used them.
        keys: ``[B, Hkv, S, D]`` per layer, rotated.
        visual: ``[B, S]`` bool, True where a key is an evictable visual token.
        valid: ``[B, S]`` bool, False where a key is padding.
        scale: softmax scale, default ``D ** -0.5``.

    Returns:
        ``[L, B, W]`` float32; 0 outside T.
    """
    queries, keys = _checks.detached(queries), _checks.detached(keys)
    return _ops.instruction_attention(queries, keys, visual, valid, _scale(scale, keys))


def elite_window(
    attention: Tensor, *, visual: Tensor, valid: Tensor | None = None, alpha: float = 0.9
) -> Tensor:
    """The elite observation window: tokens of T with ``attention >= alpha * max`` (Eq. 5).

    NaN ranks below every number; if all of a row is NaN, its last instruction token is elite.

    Args:
        attention: ``[L, B, W]`` float32.
        visual: ``[B, S]`` bool.
        valid: ``[B, S]`` bool.
        alpha: in [0, 1]; 0 takes the whole instruction, 1 the maximum alone.

    Returns:
        ``[L, B, W]`` bool.
    """
    _checks.check_alpha(alpha)
    return _ops.elite_window(attention, visual, valid, alpha)


def window_scores(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    elite: Tensor,
    *,
    visual: Tensor,
    valid: Tensor | None = None,
    scale: float | None = None,
    heads: Heads = "shared",
    softmax: Softmax = "restricted",
    softmax_n: float = 0.0,
    lse: Tensor | None = None,
) -> Tensor:
    """The score of every visual token: its mean attention from the elite tokens (Eq. 7-8).

    AirCache restricts each elite token's softmax to all visual keys and the elite keys up to
    itself. The full one is the model's own causal attention, over all valid keys up to itself:
    SnapKV, TOVA, VL-Cache and others score with it. Their elite tokens are rows of the window that
    they fix beforehand, and ``visual`` is whatever they may evict. CSP (arXiv 2412.04652, Eq. 7)
    adds a sink to it, ``exp(o) / (n + sum exp(o))``, so that a row need not give all its attention.

    Args:
        queries: ``[B, Hq, W, D]`` per layer.
        keys: ``[B, Hkv, S, D]`` per layer.
        elite: ``[L, B, W]`` bool: the rows that judge. Only tokens of the instruction may, or any
            valid ones with a full softmax.
        visual: ``[B, S]`` bool.
        valid: ``[B, S]`` bool.
        scale: softmax scale, default ``D ** -0.5``.
        heads: ``"shared"`` averages over all query heads, ``"per_kv_head"`` over each KV head's.
        softmax: ``"restricted"`` or ``"full"``.
        softmax_n: CSP's n of a full softmax, at least 0; 0 is the softmax itself.
        lse: ``[L, B, Hq, W]`` float32, contiguous: the natural log of the sum of a full softmax's
            exponentials, of the scaled logits of all valid keys up to the row, as FlashAttention
            returns it; -inf where there are none. Spares one of two passes over the keys.

    Returns:
        ``[L, B, H, S]`` float32; 0 where a position is not a valid visual token.
    """
    _checks.check_heads(heads)
    _checks.check_softmax(softmax)
    _checks.check_softmax_n(softmax_n, softmax)
    _checks.check_lse(lse, softmax, softmax_n)
    queries, keys = _checks.detached(queries), _checks.detached(keys)
    per_kv_head, full_softmax = heads == "per_kv_head", softmax == "full"
    return _ops.window_scores(
        queries,
        keys,
        elite,
        visual,
        valid,
        _scale(scale, keys),
        per_kv_head,
        full_softmax,
        softmax_n,
        None if lse is None else lse.detach(),
    )


def window_scores_and_counts(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    rows: Tensor,
    *,
    visual: Tensor,
    valid: Tensor | None = None,
    scale: float | None = None,
    heads: Heads = "shared",
    threshold: float,
) -> ScoresAndCounts:
    """The scores of a full softmax and, in the same pass, how dense the attention is.

    A weight of a visual token is significant if it is at least ``threshold`` times the largest of
    its row, over all that the row's softmax is over: the complement of VL-Cache's ThresholdFilter
    (arXiv 2410.23317), there 0.01. They are counted over all query heads, the rows that judge and
    the visual tokens up to each. With all of ``visual`` True, these are all causal entries.

    Args:
        queries: ``[B, Hq, W, D]`` per layer.
        keys: ``[B, Hkv, S, D]`` per layer.
        rows: ``[L, B, W]`` bool: those that judge, any valid ones.
        visual: ``[B, S]`` bool.
        valid: ``[B, S]`` bool.
        scale: softmax scale, default ``D ** -0.5``.
        heads: ``"shared"`` averages over all query heads, ``"per_kv_head"`` over each KV head's.
        threshold: in (0, 1]; 1 counts the maxima alone. Exponentials are compared, in float32.

    Returns:
        ``scores``, as :func:`window_scores` with ``softmax="full"``, and ``counts [L, B]`` int64.
        A row with a NaN has no significant weight.
    """
    _checks.check_heads(heads)
    _checks.check_threshold(threshold)
    queries, keys = _checks.detached(queries), _checks.detached(keys)
    per_kv_head = heads == "per_kv_head"
    return ScoresAndCounts(
        *_ops.window_scores_and_counts(
            queries, keys, rows, visual, valid, _scale(scale, keys), per_kv_head, threshold
        )
    )


def moments(scores: Tensor, *, visual: Tensor, valid: Tensor | None = None) -> Moments:
    """Strength (Eq. 9) and skewness (Eq. 10) of the scores, their heads averaged.

    Strength is the sum over the visual tokens; skewness is the adjusted Fisher-Pearson coefficient,
    0 with fewer than 3 tokens or no variance.

    Args:
        scores: ``[L, B, H, S]`` float32.
        visual: ``[B, S]`` bool.
        valid: ``[B, S]`` bool.
    """
    return Moments(*_ops.moments(scores, visual, valid))


def layer_budgets(
    strength: Tensor,
    skewness: Tensor,
    *,
    visual: Tensor,
    window: int | None = None,
    valid: Tensor | None = None,
    retention: float | None = None,
    budget: int | Tensor | None = None,
    capacity: int | Sequence[int] | None = None,
    budget_mode: BudgetMode = "strength+skewness",
) -> Tensor:
    """How many visual tokens each layer keeps (Eq. 11); a row's budgets sum to its total.

    Args:
        strength: ``[L, B]`` float64.
        skewness: ``[L, B]`` float64.
        visual: ``[B, S]`` bool.
        window: W; a row without instruction tokens in it keeps every visual token. None: rows share
            their totals whether or not there is an instruction.
        valid: ``[B, S]`` bool.
        retention: share of the visual tokens kept over all layers, in (0, 1]; 0.1 if ``budget`` is
            not given either.
        budget: instead of ``retention``: visual tokens per layer on average, an int of at least 1
            or an integer tensor ``[B]`` (values below 1 count as 1).
        capacity: slots for text and visual tokens together, one int or one per layer; what a layer
            cannot hold goes to the others.
        budget_mode: what the layers' shares follow.

    Returns:
        ``[L, B]`` int32.
    """
    batch = visual.shape[0]
    retention, budget = _checks.check_amount(retention, budget, batch, visual.device)
    capacity = _checks.check_capacity(capacity, strength.shape[0])
    _checks.check_budget_mode(budget_mode)
    return _ops.layer_budgets(
        strength, skewness, visual, valid, window, retention, budget, capacity, budget_mode
    )


def select(
    scores: Tensor,
    budgets: Tensor,
    *,
    visual: Tensor,
    valid: Tensor | None = None,
    capacity: int | Sequence[int] | None = None,
) -> tuple[list[Tensor], Tensor]:
    """The positions that stay, ascending: all text and the best ``budgets`` visual tokens.

    Equal scores go to the lower position, NaN ranks below every number, padding is dropped. Without
    a ``capacity`` each layer gets as many slots as its longest row needs, which costs one
    synchronisation with the host for the whole call.

    Args:
        scores: ``[L, B, H, S]`` float32.
        budgets: ``[L, B]`` int32.
        visual: ``[B, S]`` bool.
        valid: ``[B, S]`` bool.
        capacity: slots ``C_l``, one int or one per layer.

    Returns:
        ``indices``, per layer ``[B, H, C_l]`` int64, -1 beyond a row's count; and ``counts``
        ``[L, B]`` int32, which exceed ``C_l`` where text and budget do not fit.
    """
    capacity = _checks.check_capacity(capacity, scores.shape[0])
    return _ops.select(scores, budgets, visual, valid, capacity)


def gather_kv(
    keys: Sequence[Tensor], values: Sequence[Tensor], indices: Sequence[Tensor], counts: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The survivors' keys and values; zero beyond a row's count.

    Args:
        keys: ``[B, Hkv, S, D]`` per layer.
        values: ``[B, Hkv, S, Dv]`` per layer.
        indices: ``[B, 1 or Hkv, C_l]`` int64 per layer, in ``[0, S)`` up to the count.
        counts: ``[L, B]`` int32.

    Returns:
        Per layer ``[B, Hkv, C_l, D]`` and ``[B, Hkv, C_l, Dv]``.
    """
    keys, values = _checks.detached(keys), _checks.detached(values)
    return _ops.gather_kv(keys, values, list(indices), counts)


def compact_kv_(
    keys: Sequence[Tensor], values: Sequence[Tensor], indices: Sequence[Tensor], counts: Tensor
) -> None:
    """Moves the survivors to the front of their own storage; what stands beyond is unspecified.

    Args:
        keys: ``[B, Hkv, S, D]`` per layer, without internal overlap and not requiring grad.
        values: ``[B, Hkv, S, Dv]`` per layer, likewise, in memory of their own.
        indices: ``[B, 1 or Hkv, C_l]`` int64 per layer, ascending and distinct up to the count.
        counts: ``[L, B]`` int32.
    """
    keys, values = list(keys), list(values)
    _checks.check_writable("keys", keys)
    _checks.check_writable("values", values)
    _ops.compact_kv_(keys, values, list(indices), counts)


def decode_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Tensor,
    *,
    scale: float | None = None,
) -> Attention:
    """The attention of one decoding step over a cache whose rows hold different numbers of tokens.

    Slots ``0 .. lengths[b] - 1`` of row ``b``, or ``0 .. lengths[b, h] - 1`` of its KV head ``h``,
    are attended to; what stands beyond is not read. The new token is one of them. Lengths are read
    where the op runs, without the host: a captured graph stays right when they change. Those
    outside ``[0, C]`` count as the nearest.

    The keys are cut in parts that are attended to at once and put together by their lse, as
    Flash-Decoding does (Dao et al., 2023); the cut follows shapes alone, never the number of
    threads, and the same input gives the same bits.

    Args:
        query: ``[B, Hq, D]``, float32, float16 or bfloat16: the new token's, rotated. Query head
            ``h`` reads KV head ``h // (Hq // Hkv)``.
        key: ``[B, Hkv, C, D]`` in the query's dtype, rotated; any strides with a contiguous last
            dimension.
        value: ``[B, Hkv, C, Dv]``, likewise. On CUDA ``D`` and ``Dv`` are at most 512.
        lengths: ``[B]`` or ``[B, Hkv]`` int32, contiguous.
        scale: softmax scale, default ``D ** -0.5``.

    Returns:
        ``out [B, Hq, Dv]`` in the query's dtype, computed in float32, and ``lse [B, Hq]`` float32,
        the natural log of the sum of the exponentials of the scaled logits. Where there is no
        token, or all logits are -inf, 0 and -inf; where one is NaN or +inf, NaN.

    Raises:
        ValueError: a tensor has the wrong shape, dtype, device or strides; ``scale`` is not finite.
        TypeError: ``scale`` is not a number.
    """
    query, key, value = _checks.detached((query, key, value))
    return Attention(*_ops.decode_attention(query, key, value, lengths, _scale(scale, [key])))


def _scale(scale: float | None, keys: list[Tensor]) -> float:
    _checks.check_scale(scale)
    return keys[0].shape[-1] ** -0.5 if scale is None else scale
