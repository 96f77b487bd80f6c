"""A method in one call: one layer, all layers, or one layer in place."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from aircache_ext import _checks, ops
from aircache_ext.methods import AirCache, Amount, Method, Prompt, Tokens
from aircache_ext.ops import BudgetMode, Heads

_DEFAULT = AirCache()


class CompressedKV(NamedTuple):
    """What is left of one layer's cache.

    Row ``b`` fills slots ``0 .. counts[b] - 1``, in ascending order of original position; beyond,
    keys and values are zero and indices -1.
    """

    keys: Tensor
    """``[B, Hkv, C, D]``, the dtype of the cache."""
    values: Tensor
    """``[B, Hkv, C, Dv]``."""
    indices: Tensor
    """``[B, 1 or Hkv, C]`` int64, positions in the original cache."""
    counts: Tensor
    """``[B]`` int32. Larger than ``C`` only if a given ``capacity`` cannot hold the text (see
    ``compress``): check it there."""


def compress(
    k: Tensor,
    v: Tensor,
    q_window: Tensor,
    *,
    visual: Tensor,
    valid: Tensor | None = None,
    retention: float | None = None,
    budget: int | Tensor | None = None,
    alpha: float = 0.9,
    heads: Heads = "shared",
    scale: float | None = None,
    capacity: int | Sequence[int] | None = None,
    method: Method | None = None,
) -> CompressedKV:
    """Keeps the visual tokens of one layer's cache that the instruction looks at; drops the rest.

    The elite tokens of the instruction (Eq. 4-5) score every visual token (Eq. 7-8); the best stay,
    ties to the lower position. Text is kept whole, padding is dropped. Inference only: inputs are
    detached and left as they are.

    Args:
        k: ``[B, Hkv, S, D]`` keys after RoPE; fp32, fp16 or bf16; any strides but a contiguous last
            dimension.
        v: ``[B, Hkv, S, Dv]`` values; dtype and device of ``k``.
        q_window: ``[B, Hq, W, D]`` the model's own rotated (and normed) queries of the last ``W``
            tokens; row ``w`` stands at key position ``S - W + w``. ``Hq`` is a multiple of ``Hkv``.
        visual: ``[B, S]`` bool, True where a key is an evictable visual token (image or video).
        valid: ``[B, S]`` bool, False where a key is padding. Default: no padding.
        retention: share of each row's visual tokens that stays, in (0, 1]. Default 0.1.
        budget: instead of ``retention``: the number of visual tokens that stays, an int of at least
            1 or an integer tensor ``[B]`` (values below 1 count as 1).
        alpha: elite threshold in [0, 1]: 0 takes the whole instruction, 1 its maximum alone.
        heads: ``"shared"``: one set of tokens for all KV heads. ``"per_kv_head"``: each KV head
            keeps its own, the same number of them.
        scale: softmax scale, finite; default ``D ** -0.5``.
        capacity: slots ``C`` of the result. With it nothing synchronises with the host. It is a
            hard bound that the budget respects; text is never dropped for it, so if the text and
            one visual token do not fit, ``counts`` exceed ``C`` and what does not fit is not
            written: check ``counts``. Default: as many slots as the longest row needs.
        method: another method than AirCache, from :mod:`aircache_ext.methods`; ``alpha`` and
            ``heads`` are then left out. What it may evict, ``retention`` is a share of.

    Returns:
        ``CompressedKV``. A row without a visual token, or without an instruction token inside the
        window after the last one, keeps everything it has (as far as ``capacity`` allows).

    Raises:
        ValueError, TypeError: naming the argument, what it is and what is needed.
    """
    _checks.check_cache(("k", "v", "q_window"), [k], [v], [q_window], visual, valid)
    (compressed,) = _compress_layers(
        [k],
        [v],
        [q_window],
        visual=visual,
        valid=valid,
        retention=retention,
        budget=budget,
        scale=scale,
        capacity=capacity,
        method=method_or_aircache(method, alpha=alpha, heads=heads),
    )
    return compressed


def compress_layers(
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    q_windows: Sequence[Tensor],
    *,
    visual: Tensor,
    valid: Tensor | None = None,
    retention: float | None = None,
    budget: int | Tensor | None = None,
    alpha: float = 0.9,
    heads: Heads = "shared",
    scale: float | None = None,
    capacity: int | Sequence[int] | None = None,
    budget_mode: BudgetMode = "strength+skewness",
    method: Method | None = None,
) -> list[CompressedKV]:
    """``compress`` for all layers of a model, which share the visual tokens that may stay.

    Each layer's budget follows the strength and the skewness of its scores (Eq. 9-11); per row the
    budgets sum to ``retention`` of the visual tokens of all layers, or to ``L * budget``.

    Args:
        keys: per layer ``[B, Hkv, S, D]``, all of one shape, dtype and device.
        values: per layer ``[B, Hkv, S, Dv]``, likewise.
        q_windows: per layer ``[B, Hq, W, D]``, likewise.
        visual: ``[B, S]`` bool.
        valid: ``[B, S]`` bool.
        retention: share of the visual tokens that stays over all layers, in (0, 1]. Default 0.1.
        budget: instead of ``retention``: visual tokens per layer on average.
        alpha, heads, scale: as in ``compress``.
        capacity: slots of each layer's result, one int or one per layer. What a layer cannot hold
            goes to the others. See ``compress`` for the text that does not fit.
        budget_mode: what the layers' shares follow: ``"strength+skewness"`` (the paper),
            ``"strength"``, ``"skewness"``, ``"uniform"`` or ``"pyramid"`` (falling with depth).
        method: as in ``compress``; ``budget_mode``, too, is then left out.

    Returns:
        One ``CompressedKV`` per layer.

    Raises:
        ValueError, TypeError: naming the argument, what it is and what is needed.
    """
    keys, values, q_windows = list(keys), list(values), list(q_windows)
    names = ("keys{}", "values{}", "q_windows{}")
    _checks.check_cache(names, keys, values, q_windows, visual, valid)
    return _compress_layers(
        keys,
        values,
        q_windows,
        visual=visual,
        valid=valid,
        retention=retention,
        budget=budget,
        scale=scale,
        capacity=capacity,
        method=method_or_aircache(method, alpha=alpha, heads=heads, budget_mode=budget_mode),
    )


def compress_(
    k: Tensor,
    v: Tensor,
    q_window: Tensor,
    *,
    visual: Tensor,
    valid: Tensor | None = None,
    retention: float | None = None,
    budget: int | Tensor | None = None,
    alpha: float = 0.9,
    heads: Heads = "shared",
    scale: float | None = None,
    method: Method | None = None,
) -> tuple[Tensor, Tensor]:
    """``compress`` in place: row ``b``'s survivors move to ``k[b, :, :counts[b]]`` and ``v``
    likewise.

    What stands past the count is unspecified. Never synchronises with the host.

    Args:
        k: ``[B, Hkv, S, D]``, overwritten. Must not require grad nor overlap itself or ``v``.
        v: ``[B, Hkv, S, Dv]``, overwritten, likewise.
        q_window, visual, valid, retention, budget, alpha, heads, scale, method: as in ``compress``.

    Returns:
        ``indices`` ``[B, 1 or Hkv, S]`` int64, original positions, -1 past the count; and
        ``counts`` ``[B]`` int32.

    Raises:
        ValueError, TypeError: naming the argument, what it is and what is needed; ``k`` and ``v``
        are untouched then.
    """
    _checks.check_cache(("k", "v", "q_window"), [k], [v], [q_window], visual, valid)
    _checks.check_writable("k", [k])
    _checks.check_writable("v", [v])
    if k is v:
        raise ValueError("v is k itself but needs memory of its own: both are changed in place")
    indices, counts = _kept_tokens(
        [k],
        [q_window],
        visual=visual,
        valid=valid,
        retention=retention,
        budget=budget,
        scale=scale,
        capacity=None,
        method=method_or_aircache(method, alpha=alpha, heads=heads),
        slots=k.shape[2],
    )
    ops.compact_kv_([k], [v], indices, counts)
    return indices[0], counts[0]


def _compress_layers(
    keys: list[Tensor], values: list[Tensor], q_windows: list[Tensor], **options: Any
) -> list[CompressedKV]:
    indices, counts = _kept_tokens(keys, q_windows, slots=options["capacity"], **options)
    kept_keys, kept_values = ops.gather_kv(keys, values, indices, counts)
    layers = zip(kept_keys, kept_values, indices, counts.unbind(0), strict=True)
    return [CompressedKV(*layer) for layer in layers]


def _kept_tokens(
    keys: list[Tensor],
    q_windows: list[Tensor],
    *,
    visual: Tensor,
    valid: Tensor | None,
    scale: float | None,
    method: Method,
    slots: int | Sequence[int] | None,
    **amount: Any,
) -> tuple[list[Tensor], Tensor]:
    """Indices per layer and counts ``[L, B]``; ``slots`` is the width of the indices."""
    tokens, wanted = Tokens(visual, valid), Amount(**amount)
    seen = method.observe(Prompt(q_windows, keys, tokens, wanted, scale))
    budgets = method.budgets(len(keys), seen, tokens, wanted)
    scores = method.rank(seen.scores, budgets, tokens)
    return ops.select(scores, budgets, visual=method.evictable(tokens), valid=valid, capacity=slots)


def method_or_aircache(method: Method | None, **parameters: Any) -> Method:
    """The one that was given, or AirCache with these parameters."""
    if method is None:
        return AirCache(**parameters)
    if not isinstance(method, Method):
        raise TypeError(
            f"method is a {type(method).__name__} but must be an instance of one of "
            "aircache_ext.methods, such as SnapKV()"
        )
    for name, value in parameters.items():
        if value != getattr(_DEFAULT, name):
            raise ValueError(
                f"{name} is {value!r} and method is {method} but only one of them may be given: "
                f"methods have parameters of their own, such as AirCache({name}={value!r})"
            )
    return method
