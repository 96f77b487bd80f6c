"""A picture from disk, as a model is shown it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps


def open_picture(path: Path) -> Image.Image:
    """RGB, and upright: turned as its EXIF data say that the camera was held."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
