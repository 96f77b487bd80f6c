"""What lies under a picture's contents: a tinted sheet, grain, and clutter that means nothing."""

from random import Random

import numpy as np
from PIL import Image, ImageDraw

PATCH = 8  # pixels a side


def sheet(grid: int, rng: Random, tint: int, grain: float) -> Image.Image:
    """A bright sheet of ``grid`` x ``grid`` patches, up to ``tint`` darker per colour."""
    size = grid * PATCH
    colour = np.array([255 - rng.randrange(tint) for _ in range(3)])
    noise = np.random.default_rng(rng.getrandbits(63)).normal(0, grain, (size, size, 1))
    return Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8))


def clutter(image: Image.Image, rng: Random, marks: int) -> None:
    """Draws ``marks`` thin pale lines and dots."""
    pen = ImageDraw.Draw(image)
    for _ in range(marks):
        x, y = rng.randrange(image.width), rng.randrange(image.height)
        grey = (rng.randrange(165, 225),) * 3
        if rng.random() < 0.5:
            pen.line((x, y, x + rng.randrange(-14, 15), y + rng.randrange(-14, 15)), fill=grey)
        else:
            pen.ellipse((x, y, x + 1, y + 1), fill=grey)
