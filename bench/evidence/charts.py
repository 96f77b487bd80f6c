"""Bar charts: a name left of every bar, values from 1 to 9 read off its length."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

import fonts
import paper
from forms import NAMES, SHORT, names_width  # so reading them is learned once
from questions import Question

PITCH = 8  # pixels from line to line


@dataclass(frozen=True)
class Bar:
    line: int
    name: str
    value: int


@dataclass(frozen=True)
class Chart:
    grid: int  # patches a side
    bars: tuple[Bar, ...]  # from top to bottom
    style: int  # seed of what means nothing: colours, grid lines, clutter

    @property
    def facts(self) -> object:
        return self.bars


def largest(grid: int) -> int:
    """The value whose bar still fits."""
    return 4 if grid <= 6 else 9


def sample(rng: Random, grid: int) -> Chart:
    """2 to 4 bars of up to 4 (6 patches a side), 4 to 11 of up to 9 (12 a side)."""
    if grid <= 6:
        count, names = rng.randint(2, 4), NAMES[:SHORT]
    else:
        count, names = rng.randint(4, 11), NAMES
    lines = sorted(rng.sample(range(grid - 1), count))
    bars = (
        Bar(line, name, rng.randint(1, largest(grid)))
        for line, name in zip(lines, rng.sample(names, count), strict=True)
    )
    return Chart(grid, tuple(bars), rng.getrandbits(32))


def draw(chart: Chart) -> list[Image.Image]:
    rng = Random(chart.style)
    image = paper.sheet(chart.grid, rng, tint=20, grain=4)
    paper.clutter(image, rng, marks=chart.grid // 4)
    pen = ImageDraw.Draw(image)
    size = image.width
    left = names_width(chart.grid)  # where the bars begin
    unit = (size - left) // (largest(chart.grid) + 1)  # pixels of length
    axis = size - rng.randint(4, 6)
    pale, ink = (rng.randrange(195, 220),) * 3, (rng.randrange(60),) * 3
    for level in range(1, largest(chart.grid) + 1):
        pen.line((left + level * unit, 0, left + level * unit, axis), fill=pale)
        pen.line((left + level * unit, axis, left + level * unit, axis + 2), fill=ink)
    pen.line((left, axis, size, axis), fill=ink)
    pen.line((left, 0, left, axis), fill=ink)
    colour = tuple(rng.randrange(20, 190) for _ in range(3))
    one_colour = rng.random() < 0.5
    font = fonts.sans(rng.choice((8, 9)))
    for bar in chart.bars:
        y = bar.line * PITCH
        fill = colour if one_colour else tuple(rng.randrange(20, 190) for _ in range(3))
        pen.rectangle((left + 1, y + 1, left + bar.value * unit, y + PITCH - 2), fill=fill)
        pen.text((1, y + PITCH - 2), bar.name, fill=ink, font=font, anchor="ls")
    return [image]


ALL = [
    "read all bars from the top to the bottom",
    "what are the names and the values of the chart?",
    "turn the chart into a list of names and values",
]
SOME = ["how long is {}?", "what is the value of {}?"]
KINDS = ("list", "some", "some")  # as often as named


def ask(rng: Random, chart: Chart) -> Question:
    kind = rng.choice(KINDS)
    if kind == "list":
        bars, text = list(chart.bars), rng.choice(ALL)
    else:
        bars = rng.sample(chart.bars, rng.randint(1, min(3, len(chart.bars))))
        text = rng.choice(SOME).format(" and ".join(bar.name for bar in bars))
    return Question(kind, text, told(bars))


def told(bars: Sequence[Bar]) -> str:
    return ", ".join(f"{bar.name} is {bar.value}" for bar in bars)
