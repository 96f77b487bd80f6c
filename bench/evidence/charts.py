"""Bar charts: a letter left of every bar, values from 1 to 9 read off its length."""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

import fonts
import paper
from questions import Question

PITCH = 8  # pixels from line to line
LARGEST = 9
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"


@dataclass(frozen=True)
class Bar:
    line: int
    letter: str
    value: int


@dataclass(frozen=True)
class Chart:
    grid: int  # patches a side
    bars: tuple[Bar, ...]  # from top to bottom
    style: int  # seed of what means nothing: colours, grid lines, clutter

    @property
    def facts(self) -> object:
        return self.bars


def sample(rng: Random, grid: int) -> Chart:
    """2 to 4 bars (6 patches a side), 4 to 11 (12 a side).

    Half of the small ones have the first letters alone: reading begins with few characters.
    """
    if grid <= 6:
        count, letters = rng.randint(2, 4), LETTERS[:6] if rng.random() < 0.5 else LETTERS
    else:
        count, letters = rng.randint(4, 11), LETTERS
    lines = sorted(rng.sample(range(grid - 1), count))
    letters = rng.sample(letters, count)
    bars = (
        Bar(line, letter, rng.randint(1, LARGEST))
        for line, letter in zip(lines, letters, strict=True)
    )
    return Chart(grid, tuple(bars), rng.getrandbits(32))


def draw(chart: Chart) -> list[Image.Image]:
    rng = Random(chart.style)
    image = paper.sheet(chart.grid, rng, tint=20, grain=4)
    paper.clutter(image, rng, marks=chart.grid // 4)
    pen = ImageDraw.Draw(image)
    size = image.width
    unit = (size - PITCH) // (LARGEST + 1)  # pixels of length
    axis = size - rng.randint(4, 6)
    pale, ink = (rng.randrange(195, 220),) * 3, (rng.randrange(60),) * 3
    for level in range(1, LARGEST + 1):
        pen.line((PITCH + level * unit, 0, PITCH + level * unit, axis), fill=pale)
        pen.line((PITCH + level * unit, axis, PITCH + level * unit, axis + 2), fill=ink)
    pen.line((PITCH, axis, size, axis), fill=ink)
    pen.line((PITCH, 0, PITCH, axis), fill=ink)
    colour = tuple(rng.randrange(20, 190) for _ in range(3))
    one_colour = rng.random() < 0.5
    font = fonts.mono(9)
    for bar in chart.bars:
        y = bar.line * PITCH
        fill = colour if one_colour else tuple(rng.randrange(20, 190) for _ in range(3))
        pen.rectangle((PITCH + 1, y + 1, PITCH + bar.value * unit, y + PITCH - 2), fill=fill)
        pen.text((4, y + PITCH - 1), bar.letter, fill=ink, font=font, anchor="ms")
    return [image]


ALL = [
    "read all bars from the top to the bottom",
    "what are the letters and the values of the chart?",
    "turn the chart into a list of letters and values",
]
SOME = ["how long is {}?", "what is the value of {}?"]
LARGE = ["which bar has the highest value?", "what is the largest value, and which bar has it?"]
SMALL = ["which bar has the lowest value?", "what is the smallest value, and which bar has it?"]
KINDS = ("list", "some", "some", "some", "extreme")  # as often as named


def ask(rng: Random, chart: Chart) -> Question:
    kind = rng.choice(KINDS)
    if kind == "some":
        bars = rng.sample(chart.bars, rng.randint(1, min(3, len(chart.bars))))
        text = rng.choice(SOME).format(" and ".join(bar.letter for bar in bars))
    elif kind == "extreme":
        largest = rng.random() < 0.5
        extreme = (max if largest else min)(bar.value for bar in chart.bars)
        bars = [bar for bar in chart.bars if bar.value == extreme]
        text = rng.choice(LARGE if largest else SMALL)
    else:
        kind, bars, text = "list", list(chart.bars), rng.choice(ALL)
    return Question(kind, text, ", ".join(f"{bar.letter} is {bar.value}" for bar in bars))
