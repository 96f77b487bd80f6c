"""The same as one PNG, for a document that shows it at half its size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from aircache_ext.cli.flow import flow
from aircache_ext.cli.story import Poster, Story, around, compared, percent, verdict

WIDTH, MARGIN, GAP = 1760, 48, 20  # pixels
PHOTO = 384  # its width
LEFT = MARGIN + PHOTO + 2 * GAP  # where text and panels begin
ROOM = WIDTH - MARGIN - LEFT
LABEL, TAG = 170, 104  # widths beside an answer
COST = 140  # the width of a cost's name
ACROSS = 7  # panels
BACKGROUND, CARD = (16, 16, 20), (28, 28, 34)
COLOURS = {
    "ink": (242, 242, 240),
    "soft": (160, 160, 170),
    "accent": (251, 191, 36),
    "right": (74, 222, 128),
    "wrong": (252, 129, 129),
}
DIMMED = 0.24  # brightness of what is gone


def draw(poster: Poster) -> Image.Image:
    """A band a story: picture, question, answers, and what each layer kept; evicted cells are grey.
    A map of cells where the grid is not known."""
    bands = [_title(poster), *map(_band, poster.stories)]
    if poster.notes:
        bands.append(_notes(poster.notes))
    sheet = Image.new("RGB", (WIDTH, sum(band.height for band in bands)), BACKGROUND)
    y = 0
    for band in bands:
        sheet.paste(band, (0, y))
        y += band.height
    return sheet


class Canvas:
    """Takes what is drawn and is as high as that needs."""

    def __init__(self) -> None:
        self.texts: list[tuple[tuple[float, int], str, str, int]] = []
        self.images: list[tuple[tuple[int, int], Image.Image]] = []
        self.bottom = 0

    def write(
        self, x: float, y: int, stretches: Sequence[tuple[str, str]], size: int, room: float
    ) -> int:
        """Text by colour from ``(x, y)`` on, ``room`` wide; returns where the next line begins."""
        font = ImageFont.load_default(size)
        for line in flow(stretches, font.getlength, room):
            end = x
            for text, colour in line:
                self.texts.append(((end, y), text, colour, size))
                end += font.getlength(text)
            y += round(1.42 * size)
        self.bottom = max(self.bottom, y)
        return y

    def paste(self, x: int, y: int, image: Image.Image) -> int:
        self.images.append(((x, y), image))
        self.bottom = max(self.bottom, y + image.height)
        return y + image.height

    def render(self, background: tuple[int, int, int], padding: int) -> Image.Image:
        sheet = Image.new("RGB", (WIDTH, self.bottom + padding), background)
        for corner, image in self.images:
            sheet.paste(image, corner)
        pen = ImageDraw.Draw(sheet)
        for at, text, colour, size in self.texts:
            pen.text(at, text, fill=COLOURS[colour], font=ImageFont.load_default(size))
        return sheet


def _title(poster: Poster) -> Image.Image:
    canvas, room = Canvas(), WIDTH - 2 * MARGIN
    y = canvas.write(MARGIN, 40, [(poster.title, "ink")], 46, room) + 4
    for line in poster.lead:
        y = canvas.write(MARGIN, y, [(line, "soft")], 26, room)
    for i, (number, what) in enumerate(poster.facts):
        column = room / len(poster.facts)
        below = canvas.write(MARGIN + i * column, y + 20, [(number, "ink")], 38, column)
        canvas.write(MARGIN + i * column, below - 6, [(what, "soft")], 26, column - GAP)
    return canvas.render(BACKGROUND, 32)


def _notes(notes: Sequence[str]) -> Image.Image:
    canvas, y = Canvas(), 24
    for line in notes:
        y = canvas.write(MARGIN, y, [(line, "soft")], 22, WIDTH - 2 * MARGIN)
    return canvas.render(BACKGROUND, 28)


def _band(story: Story) -> Image.Image:
    canvas = Canvas()
    _beside_photo(canvas, story, _left(canvas, story))
    band = canvas.render(CARD, 36)
    ImageDraw.Draw(band).rectangle((0, 0, WIDTH, 2), fill=BACKGROUND)
    return band


def _left(canvas: Canvas, story: Story) -> int:
    """The picture, and below it what it costs; returns where the text beside it begins."""
    photo = _enlarged(story.photo, PHOTO)
    y = canvas.paste(MARGIN, 44, photo) + GAP
    for name, cells in story.costs().items():
        if name == "tokens":
            continue
        numbers = " -> ".join(cell for cell in cells if cell != "-")
        canvas.write(MARGIN, y, [(name, "soft")], 22, PHOTO)
        y = canvas.write(MARGIN + COST, y, [(numbers, "ink")], 22, PHOTO - COST)
    return 36


def _beside_photo(canvas: Canvas, story: Story, y: int) -> None:
    if story.heading:
        y = canvas.write(LEFT, y, [(story.heading, "accent")], 34, ROOM) + 4
    colours = {True: "ink", False: "soft"}
    asked = [(text, colours[matters]) for text, matters in around(story.question, story.asked)]
    y = canvas.write(LEFT, y, asked, 26, ROOM) + 14
    if story.truth is not None:
        y = _answer(canvas, y, "true answer", [(story.truth, "ink")], "")
    for name, answer in story.answers.items():
        said = [
            (text, "ink" if right else "wrong")
            for text, right in compared(answer.text, story.truth)
        ]
        y = _answer(canvas, y, name, said, verdict(story.right(answer)))
    _panels(canvas, story, y + 16)


def _answer(canvas: Canvas, y: int, name: str, said: Sequence[tuple[str, str]], mark: str) -> int:
    canvas.write(LEFT, y, [(name, "soft")], 26, LABEL)
    if mark:
        canvas.write(LEFT + LABEL, y, [(mark, mark)], 26, TAG)
    x = LEFT + LABEL + TAG
    return canvas.write(x, y, said, 26, LEFT + ROOM - x) + 4


def _panels(canvas: Canvas, story: Story, y: int) -> None:
    lines = math.ceil(len(story.cells) / ACROSS)
    columns = math.ceil(len(story.cells) / lines)
    width = (ROOM - GAP * (columns - 1)) // max(columns, 4)
    bottom = y
    for i, (layer, cells) in enumerate(story.cells.items()):
        if i % columns == 0:
            y, bottom = bottom, bottom
        panel = _panel(story.photo if story.grid.on_photo else None, cells, width)
        x = LEFT + i % columns * (width + GAP)
        share = percent(story.kept[layer] / story.visual_tokens)
        below = canvas.paste(x, y, panel) + 4
        captions = [(f"layer {layer}  ", "soft"), (share, "ink")]
        bottom = canvas.write(x, below, captions, 22, width + GAP) + 8


def _panel(photo: Image.Image | None, cells: list[list[bool]], width: int) -> Image.Image:
    small = Image.new("L", (len(cells[0]), len(cells)))
    small.putdata([255 if cell else 0 for row in cells for cell in row])
    if photo is None:
        size = width, round(width * small.height / small.width)
        gone, kept = Image.new("RGB", size, (52, 52, 60)), Image.new("RGB", size, COLOURS["accent"])
    else:
        kept = _enlarged(photo, width)
        gone = kept.convert("L").point(lambda value: value * DIMMED).convert("RGB")
    return Image.composite(kept, gone, small.resize(kept.size, Image.Resampling.NEAREST))


def _enlarged(photo: Image.Image, width: int) -> Image.Image:
    """``width`` wide or a little less: the pixels of a small picture stay squares of one size."""
    photo = photo.convert("RGB")
    whole = width // photo.width
    if whole > 1:
        return photo.resize((whole * photo.width, whole * photo.height), Image.Resampling.NEAREST)
    return photo.resize((width, max(1, round(width * photo.height / photo.width))))
