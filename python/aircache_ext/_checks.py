"""Arguments are refused here, before anything is computed: name, what came, what is needed.

``TypeError`` for the wrong kind of thing (not a tensor, not that dtype), ``ValueError`` for a value
or a shape that cannot work.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, get_args

import torch
from torch import Tensor

from aircache_ext._choices import BudgetMode, Heads, Softmax

CACHE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
HEADS = get_args(Heads)
SOFTMAXES = get_args(Softmax)
BUDGET_MODES = get_args(BudgetMode)
DEFAULT_RETENTION = 0.1  # the paper's headline figure


class Shapes:
    """Sizes by name, bound by the first tensor that has them and compared from then on."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def check(self, name: str, tensor: Any, shape: tuple[str, ...]) -> None:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__} but must be a tensor")
        fits = tensor.dim() == len(shape) and all(
            self.sizes.get(dim, size) == size for dim, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            needed = ", ".join(f"{d}={self.sizes[d]}" if d in self.sizes else d for d in shape)
            raise ValueError(f"{name} has shape {list(tensor.shape)} but must be [{needed}]")
        self.sizes.update(zip(shape, tensor.shape, strict=True))


def check_cache(
    names: tuple[str, str, str],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    q_windows: Sequence[Tensor],
    visual: Tensor,
    valid: Tensor | None,
) -> None:
    """Everything that the compress functions ask of their tensors.

    ``names`` are the arguments' names, with a ``{}`` where the layer goes.
    """
    key_name, value_name, query_name = names
    if not len(keys):
        raise ValueError(f"{key_name.format('')} is empty but needs one tensor per layer")
    for name, tensors in ((value_name, values), (query_name, q_windows)):
        if len(tensors) != len(keys):
            raise ValueError(
                f"{name.format('')} has {len(tensors)} tensors but needs {len(keys)}, one per layer"
            )
    shapes = Shapes()
    first = (keys[0], values[0], q_windows[0])
    for layer, tensors in enumerate(zip(keys, values, q_windows, strict=True)):
        if layer > 0 and all(_alike(t, like) for t, like in zip(tensors, first, strict=True)):
            continue  # the rule: nothing to say that was not said of the first layer
        at = f"[{layer}]"
        k, v, q = tensors
        shapes.check(key_name.format(at), k, ("batch", "kv_heads", "seq", "head_dim"))
        shapes.check(value_name.format(at), v, ("batch", "kv_heads", "seq", "value_dim"))
        shapes.check(query_name.format(at), q, ("batch", "query_heads", "window", "head_dim"))
        for name, tensor in ((key_name, k), (value_name, v), (query_name, q)):
            _check_placed(name.format(at), tensor, keys[0], key_name.format("[0]"))
    sizes = shapes.sizes
    for dim in ("kv_heads", "seq", "head_dim", "value_dim"):
        if sizes[dim] < 1:
            raise ValueError(f"{key_name.format('')} has {dim} {sizes[dim]} but needs at least 1")
    if sizes["query_heads"] < 1 or sizes["query_heads"] % sizes["kv_heads"]:
        raise ValueError(
            f"{query_name.format('')} has {sizes['query_heads']} heads but needs a positive "
            f"multiple of the {sizes['kv_heads']} heads of {key_name.format('')}"
        )
    if not 1 <= sizes["window"] <= sizes["seq"]:
        raise ValueError(
            f"{query_name.format('')} has window {sizes['window']} but must have between 1 and the "
            f"{sizes['seq']} positions of {key_name.format('')}"
        )
    masks = {"visual": visual} if valid is None else {"visual": visual, "valid": valid}
    for name, mask in masks.items():
        shapes.check(name, mask, ("batch", "seq"))
        if mask.dtype != torch.bool:
            raise TypeError(f"{name} is {mask.dtype} but must be torch.bool")
        _check_device(name, mask, keys[0], key_name.format("[0]"))


def _alike(tensor: Any, like: Tensor) -> bool:
    """Whether all that is checked of ``like`` holds of ``tensor`` too."""
    return (
        isinstance(tensor, Tensor)
        and tensor.shape == like.shape
        and tensor.stride() == like.stride()
        and tensor.dtype == like.dtype
        and tensor.device == like.device
    )


def _check_placed(name: str, tensor: Tensor, like: Tensor, like_name: str) -> None:
    if tensor.dtype not in CACHE_DTYPES:
        raise TypeError(f"{name} is {tensor.dtype} but must be float32, float16 or bfloat16")
    if tensor.dtype != like.dtype:
        raise TypeError(f"{name} is {tensor.dtype} but must be {like.dtype}, as {like_name} is")
    _check_device(name, tensor, like, like_name)
    if tensor.shape[-1] > 1 and tensor.numel() > 0 and tensor.stride(-1) != 1:
        raise ValueError(
            f"{name} has a last dimension of stride {tensor.stride(-1)} but it must be contiguous "
            "(stride 1)"
        )


def _check_device(name: str, tensor: Tensor, like: Tensor, like_name: str) -> None:
    if tensor.device != like.device:
        raise ValueError(
            f"{name} is on {tensor.device} but must be on {like.device}, as {like_name} is"
        )


def check_writable(name: str, tensors: Sequence[Tensor]) -> None:
    """In-place ops write: no graph may depend on the tensor, no two elements may share memory."""
    for tensor in tensors:
        if tensor.requires_grad:
            raise ValueError(f"{name} requires grad but must not: it is changed in place")
        if _overlaps_itself(tensor):
            raise ValueError(
                f"{name} has elements that overlap in memory (shape {list(tensor.shape)}, strides "
                f"{list(tensor.stride())}) but needs memory of its own for each: clone it first"
            )


def _overlaps_itself(tensor: Tensor) -> bool:
    """Whether some stride is smaller than what the finer dimensions span together."""
    dims = [(stride, n) for stride, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]
    for i, (stride, _) in enumerate(dims):
        finer = [(s, n) for j, (s, n) in enumerate(dims) if j != i and s <= stride]
        if stride <= sum(s * (n - 1) for s, n in finer):
            return True
    return False


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a {type(value).__name__} but must be a number")


def check_alpha(alpha: Any) -> None:
    check_share("alpha", alpha)


def check_share(name: str, value: Any) -> None:
    _check_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value} but must be in [0, 1]")


def check_scale(scale: Any) -> None:
    if scale is not None:
        _check_number("scale", scale)
        if not -math.inf < scale < math.inf:
            raise ValueError(f"scale is {scale} but must be finite")


def check_heads(heads: Any) -> None:
    check_choice("heads", heads, HEADS)


def check_softmax(softmax: Any) -> None:
    check_choice("softmax", softmax, SOFTMAXES)


def check_softmax_n(softmax_n: Any, softmax: str) -> None:
    _check_number("softmax_n", softmax_n)
    if not 0 <= softmax_n < math.inf:
        raise ValueError(f"softmax_n is {softmax_n} but must be at least 0 and finite")
    if softmax_n > 0 and softmax != "full":
        raise ValueError(f"softmax_n is {softmax_n} but must be 0 unless softmax is 'full'")


def check_lse(lse: Any, softmax: str, softmax_n: float) -> None:
    if lse is None:
        return
    if not isinstance(lse, Tensor):
        raise TypeError(f"lse is a {type(lse).__name__} but must be a tensor")
    if softmax != "full" or softmax_n > 0:
        raise ValueError(
            f"lse goes with softmax 'full' and softmax_n 0 but they are {softmax!r} and {softmax_n}"
        )


def check_threshold(threshold: Any) -> None:
    _check_number("threshold", threshold)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold} but must be in (0, 1]")


def check_budget_mode(budget_mode: Any) -> None:
    check_choice("budget_mode", budget_mode, BUDGET_MODES)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r} but must be one of {', '.join(map(repr, choices))}")


def check_amount(
    retention: Any, budget: Any, batch: int, device: torch.device
) -> tuple[float | None, Tensor | None]:
    """The one of ``retention`` and ``budget`` that holds; a budget as an int64 tensor ``[B]``."""
    if budget is None:
        retention = DEFAULT_RETENTION if retention is None else retention
        _check_number("retention", retention)
        if not 0 < retention <= 1:
            raise ValueError(f"retention is {retention} but must be in (0, 1]")
        return float(retention), None
    if retention is not None:
        raise ValueError(
            f"retention is {retention} and budget is {budget} but only one of them may be given"
        )
    if isinstance(budget, Tensor):
        if budget.dtype.is_floating_point or budget.dtype.is_complex or budget.dtype == torch.bool:
            raise TypeError(f"budget is {budget.dtype} but must be an integer tensor")
        if tuple(budget.shape) != (batch,):
            raise ValueError(f"budget has shape {list(budget.shape)} but must be [batch={batch}]")
        if budget.device != device:
            raise ValueError(f"budget is on {budget.device} but must be on {device}, as visual is")
        return None, budget.to(torch.int64).clamp(min=1)
    check_count("budget", budget)
    return None, torch.full((batch,), budget, dtype=torch.int64, device=device)


def check_capacity(capacity: Any, layers: int) -> list[int] | None:
    """Slots per layer."""
    if capacity is None:
        return None
    if isinstance(capacity, Sequence) and not isinstance(capacity, str):
        if len(capacity) != layers:
            raise ValueError(
                f"capacity has {len(capacity)} entries but needs {layers}, one per layer"
            )
        capacities = list(capacity)
    else:
        capacities = [capacity] * layers
    for slots in capacities:
        check_count("capacity", slots)
    return capacities


def check_count(name: str, value: Any, least: int = 1) -> None:
    _check_whole(name, value)
    if value < least:
        raise ValueError(f"{name} is {value} but must be at least {least}")


def check_seed(seed: Any) -> None:
    _check_whole("seed", seed)
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed is {seed} but must fit into 64 bits, sign included")


def check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is a {type(value).__name__} but must be a bool")


def _check_whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (Integral, torch.SymInt)):
        raise TypeError(f"{name} is a {type(value).__name__} but must be an int")


def detached(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Inference only: results never carry a graph."""
    return [tensor.detach() if tensor.requires_grad else tensor for tensor in tensors]
