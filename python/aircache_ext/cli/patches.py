"""Where the visual tokens of a picture lie in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Tokens row by row. ``on_photo``: a cell shows what its token saw; else the order is all that
    is known, and the last cells of the grid may be of no token."""

    rows: int
    columns: int
    on_photo: bool


def seen_part(photo: Image.Image, image_processor: Any) -> Image.Image:
    """What the model sees of a photograph: CLIP's preprocessing cuts a square out of its middle."""
    if not getattr(image_processor, "do_center_crop", False):
        return photo
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return photo.crop((left, top, left + side, top + side))


def grid_of(inputs: Mapping[str, Tensor], tokens: int) -> Grid:
    """The grid of one picture's ``tokens``, as far as the model's inputs tell it.

    Models of the Qwen-VL kind give the patches of a picture; where they are merged, there are fewer
    tokens. A square number is the grid of a tower that sees one square picture. Tiles, thumbnails
    and markers between rows have no such grid.
    """
    patches = inputs.get("image_grid_thw")
    if patches is not None and len(patches) == 1:
        _, height, width = patches[0].tolist()
        merge = math.isqrt(height * width // tokens)
        if height // merge * (width // merge) == tokens:
            return Grid(height // merge, width // merge, on_photo=True)
    side = math.isqrt(tokens)
    if side * side == tokens:
        return Grid(side, side, on_photo=True)
    columns = math.ceil(math.sqrt(tokens))
    return Grid(math.ceil(tokens / columns), columns, on_photo=False)


def kept_cells(positions: Tensor, visual: Tensor, grid: Grid) -> list[list[bool]]:
    """Which cells of the grid stayed.

    Args:
        positions: ``[heads, slots]`` int64, what a layer holds of one row; -1 in unused slots. A
            cell stays if any head kept it.
        visual: ``[seen]`` bool, True where a token is visual.
        grid: of these tokens.
    """
    cells = _stays(positions, visual).any(0)[visual].tolist()
    cells += [False] * (grid.rows * grid.columns - len(cells))
    return [cells[row * grid.columns :][: grid.columns] for row in range(grid.rows)]


def kept_tokens(positions: Tensor, visual: Tensor) -> int:
    """How many visual tokens a head kept, all of them alike; arguments as of ``kept_cells``."""
    return int(_stays(positions, visual)[0, visual].sum())


def _stays(positions: Tensor, visual: Tensor) -> Tensor:
    """``[heads, seen]`` bool."""
    stays = torch.zeros(len(positions), len(visual), dtype=torch.bool)
    for head, held in enumerate(positions):
        stays[head, held[(held >= 0) & (held < len(visual))]] = True
    return stays
