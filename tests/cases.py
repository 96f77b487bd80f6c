"""Prompts and caches to compress: what the tests and their grids are made of."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aircache_ext.reference import instruction_tokens

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16


def tokens(*rows: str) -> tuple[Tensor, Tensor]:
    """``visual`` and ``valid`` ``[B, S]`` of rows like ``"pad 2, text 4, visual 30, text 9"``.

    Every other padding position is marked visual: it must not matter.
    """
    kinds = []
    for row in rows:
        parts = [part.split() for part in row.split(",")]
        kinds.append([kind for kind, count in parts for _ in range(int(count))])
    marked = {"visual": (1, 1), "text": (0, 0), "pad": (1, 0)}
    visual = torch.tensor([[marked[k][i % 2] for i, k in enumerate(row)] for row in kinds])
    valid = torch.tensor([[kind != "pad" for kind in row] for row in kinds])
    return visual.bool(), valid


PROMPTS = {
    "one image": ("text 5, visual 61, text 13",) * 2,
    "several images, markers between": (
        "text 3, visual 20, text 2, visual 31, text 1, visual 9, text 14",
        "text 1, visual 35, text 1, visual 26, text 1, visual 1, text 15",
    ),
    "image first, no system prompt": ("visual 50, text 21", "visual 60, text 11"),
    "left padding": ("pad 17, text 4, visual 40, text 12", "text 9, visual 45, text 19"),
    "padding everywhere": (
        "text 4, visual 20, pad 3, visual 17, pad 1, text 12, pad 5",
        "pad 2, text 1, visual 30, text 2, pad 4, visual 9, text 7, pad 2, text 5",
    ),
    "image ends inside the window": ("text 6, visual 60, text 3", "text 9, visual 54, text 6"),
    "long instruction": ("text 4, visual 33, text 40", "text 30, visual 17, text 30"),
    "one, two and three visual tokens": (
        "text 9, visual 1, text 13",
        "text 8, visual 2, text 13",
        "text 7, visual 3, text 13",
    ),
    "rows that keep everything": (
        "text 60",  # no visual token
        "text 5, visual 55",  # no instruction
        "pad 3, text 2, visual 40, pad 15",  # none either: the window is padding
        "text 4, visual 40, text 16",
        "pad 60",
    ),
}


@dataclass(frozen=True)
class Case:
    """One prompt in one model's cache; ``inputs()`` makes its tensors, the same every time."""

    prompt: str = "one image"
    layers: int = 2
    kv_heads: int = 2
    group: int = 2
    head_dim: int = 64
    value_dim: int = 48
    window: int = 16
    dtype: torch.dtype = FP32
    layout: str = "bhsd"
    seed: int = 0

    @property
    def id(self) -> str:
        default = Case()
        parts = [self.prompt.replace(" ", "_").replace(",", "")]
        for name in ("layers", "kv_heads", "group", "head_dim", "value_dim", "window", "seed"):
            if getattr(self, name) != getattr(default, name):
                parts.append(f"{name}={getattr(self, name)}")
        return "-".join([*parts, self.layout, str(self.dtype).removeprefix("torch.")])

    def inputs(self) -> Inputs:
        visual, valid = tokens(*PROMPTS[self.prompt])
        return make_inputs(visual, valid, self)


@dataclass(frozen=True)
class Inputs:
    """The tensors of a case. ``masks`` are keywords of every op."""

    keys: list[Tensor]  # L x [B, Hkv, S, D]
    values: list[Tensor]  # L x [B, Hkv, S, Dv]
    queries: list[Tensor]  # L x [B, Hq, W, D]
    visual: Tensor  # [B, S]
    valid: Tensor  # [B, S]
    masks: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", {"visual": self.visual, "valid": self.valid})

    @property
    def cache(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The positional arguments of ``compress_layers``."""
        return self.keys, self.values, self.queries

    def to(self, device: torch.device) -> Inputs:
        cache = ([moved(t, device) for t in tensors] for tensors in self.cache)
        return Inputs(*cache, moved(self.visual, device), moved(self.valid, device))


def make_inputs(visual: Tensor, valid: Tensor, case: Case) -> Inputs:
    """Queries and keys whose attention is peaked as a model's is.

    The heads of a layer read along one direction, and every key has a say along it. Among the
    instruction tokens four nearly share the maximum and the others are well below, so that the
    elite set rarely hangs on rounding; visual tokens spread over orders of magnitude.
    """
    batch, seq = visual.shape
    window = min(case.window, seq)
    random = torch.Generator().manual_seed(case.seed)
    instruction = instruction_tokens(visual, valid, window)
    steps = torch.tensor([0, -0.04, -0.06, -0.07, *(-0.3 - 0.05 * i for i in range(seq))])

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    keys, values, queries = [], [], []
    for _ in range(case.layers):
        direction = normal(batch, case.kv_heads, 1, case.head_dim)
        direction = direction / direction.norm(dim=3, keepdim=True)
        say = 1.5 * normal(batch, 1, seq, 1) + 0.3 * normal(batch, case.kv_heads, seq, 1)
        weight_of_text = 2 * torch.rand(1, generator=random)
        for row, inside in enumerate(instruction):
            n = int(inside.sum())
            shuffled = steps[:n][torch.randperm(n, generator=random)]
            say[row, :, seq - window :][:, inside] = (weight_of_text + shuffled)[:, None]
        key = say * direction + 0.005 * normal(batch, case.kv_heads, seq, case.head_dim)
        noise = normal(batch, case.kv_heads, case.group, window, case.head_dim)
        query = (direction[:, :, None] + 0.02 * noise).flatten(1, 2) * case.head_dim**0.5
        keys.append(key)
        queries.append(query)
        values.append(normal(batch, case.kv_heads, seq, case.value_dim))
    stored = [
        [store(tensor.to(case.dtype), case.layout) for tensor in tensors]
        for tensors in (keys, values, queries)
    ]
    return Inputs(*stored, visual, valid)


LAYOUTS = ("bhsd", "bshd", "sliced", "one batch row")


def around(tensor: Tensor) -> Tensor:
    """All of the memory that a tensor is a part of, flat."""
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((size,), (1,), 0)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """There, at the place in its memory that it has here: with its strides and its offset.

    ``tensor.to(device)`` would pack a part of a larger buffer, whose alignment was to be tested.
    """
    memory = around(tensor).to(device)
    return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def store(tensor: Tensor, layout: str) -> Tensor:
    """The same ``[B, H, S, D]`` numbers in other memory; the last dimension stays contiguous."""
    batch, heads, rows, dim = tensor.shape
    if layout == "bhsd":
        return tensor.contiguous()
    if layout == "bshd":
        return tensor.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "sliced":  # a part of a larger, preallocated cache, at odd offsets
        cache = torch.full((batch + 1, heads + 2, rows + 5, dim + 3), torch.nan, dtype=tensor.dtype)
        view = cache[1:, 1:-1, 2:-3, 1:-2]
        return view.copy_(tensor)
    if layout == "one batch row":  # stride 0: every row of the batch is the same memory
        return tensor[:1].contiguous().expand(batch, -1, -1, -1)
    raise ValueError(layout)


BASE = Case()
VARIATIONS = {
    "prompt": list(PROMPTS),
    "group": [1, 2, 4, 6, 7, 8],
    "head_dim": [20, 33, 64, 80, 96, 128, 256],
    "value_dim": [1, 64, 80],
    "kv_heads": [1, 3],
    "layers": [1, 3],
    "window": [1, 2, 5, 33, 64, 79],
    "layout": list(LAYOUTS),
}

# One thing changed at a time, in every dtype: a kernel that mishandles one of them shows it here.
# What only a combination can break is left to the full grid.
GRID = [
    replace(BASE, dtype=dtype, **{name: value})
    for dtype in (FP32, FP16, BF16)
    for name, values in VARIATIONS.items()
    for value in values
]

FULL_GRID = [
    Case(prompt=prompt, group=group, head_dim=head_dim, dtype=dtype, layout=layout, window=window)
    for prompt, group, head_dim, dtype, (layout, window) in itertools.product(
        PROMPTS,
        VARIATIONS["group"],
        (20, 33, 64, 80, 96, 128, 256),
        (FP32, FP16, BF16),
        (("bhsd", 16), ("bshd", 1), ("sliced", 33), ("sliced", 60)),
    )
]
