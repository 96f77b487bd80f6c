"""The fonts of the pictures: the DejaVu family that matplotlib brings along, on every machine."""

from functools import cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def sans(size: int) -> ImageFont.FreeTypeFont:
    """Proportional letters; ``size`` in pixels to the em."""
    return ImageFont.truetype(FOLDER / "DejaVuSans.ttf", size)


@cache
def mono(size: int) -> ImageFont.FreeTypeFont:
    """Letters of one width, bold."""
    return ImageFont.truetype(FOLDER / "DejaVuSansMono-Bold.ttf", size)
