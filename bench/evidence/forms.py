"""Forms: printed field names on the left, values typed into boxes of one character on the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

import fonts
import paper
from questions import Question

PITCH = 8  # pixels of a line and of a box
NAMES = (
    ("no", "id", "tel", "sum", "zip", "age", "qty", "tax", "ref", "vat", "day", "fee")  # short
    + ("name", "date", "city", "total", "order", "phone", "street", "status", "price", "account")
)
SHORT = 12
DIGITS = "0123456789"
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"  # codes avoid I, O and Q for good reasons


@dataclass(frozen=True)
class Field:
    line: int
    name: str
    value: str


@dataclass(frozen=True)
class Form:
    grid: int  # patches a side
    fields: tuple[Field, ...]  # from top to bottom
    style: int  # seed of what means nothing: offsets, sizes, tints, clutter

    @property
    def facts(self) -> object:
        return self.fields


def sample(rng: Random, grid: int) -> Form:
    """1 to 3 fields of 3 characters (6 patches a side), 6 to 11 of 3 to 6 (12 a side).

    Many of the small ones have digits alone: reading begins with few characters.
    """
    if grid <= 6:
        count, names, longest = rng.randint(1, 3), NAMES[:SHORT], 3
        alphabets = (DIGITS,) if rng.random() < 0.4 else (DIGITS, LETTERS)
    else:
        count, names, longest = rng.randint(6, 11), NAMES, 6
        alphabets = (DIGITS, LETTERS)
    lines = sorted(rng.sample(range(grid), count))
    chosen = rng.sample(names, count)
    return Form(
        grid,
        tuple(
            Field(line, name, _value(rng, rng.randint(3, longest), alphabets))
            for line, name in zip(lines, chosen, strict=True)
        ),
        rng.getrandbits(32),
    )


def _value(rng: Random, length: int, alphabets: Sequence[str]) -> str:
    return "".join(rng.choice(rng.choice(alphabets)) for _ in range(length))


def names_width(grid: int) -> int:
    """Pixels that the names take: on small pictures they are short."""
    return (3 if grid <= 6 else 5) * PITCH


def draw(form: Form) -> list[Image.Image]:
    rng = Random(form.style)
    image = paper.sheet(form.grid, rng, tint=24, grain=4)
    paper.clutter(image, rng, marks=form.grid // 3)
    pen = ImageDraw.Draw(image)
    size = 9 if form.grid <= 6 else rng.choice((8, 9))
    margin = rng.randint(0, max(0, form.grid - 12)) * PITCH
    left, top = margin + rng.randint(0, 1), rng.randint(size - 9, 0)  # no character is cut off
    edge = left + names_width(form.grid)  # where the boxes begin
    name_font, value_font = fonts.sans(rng.choice((8, 9))), fonts.mono(size)
    ink, pale = (rng.randrange(70),) * 3, (rng.randrange(185, 215),) * 3
    for field in form.fields:
        base = top + field.line * PITCH + PITCH - 1
        pen.text((left, base - 1), field.name, fill=ink, font=name_font, anchor="ls")
        for place, character in enumerate(field.value):
            x = edge + place * PITCH
            pen.line((x, base, x + PITCH - 2, base), fill=pale)
            pen.text((x + PITCH // 2, base), character, fill=ink, font=value_font, anchor="ms")
    return [image]


ONE = [
    "what is the {}?",
    "read the field {}",
    "what is written next to {}?",
    "i need to know the {} of this form",
]
SOME = ["read the fields {}", "what are {}?"]
COPY = ["copy the {} {} fields with their names", "read the {} {} lines of the form"]
KINDS = ("one", "some", "some", "copy")  # as often as named
NUMBERS = ("two", "three")


def ask(rng: Random, form: Form) -> Question:
    kind = rng.choice(KINDS) if len(form.fields) > 1 else "one"
    if kind == "one":
        field = rng.choice(form.fields)
        return Question(kind, rng.choice(ONE).format(field.name), field.value)
    if kind == "some":
        fields = rng.sample(form.fields, rng.randint(2, min(3, len(form.fields))))
        text = rng.choice(SOME).format(" and ".join(field.name for field in fields))
        return Question(kind, text, _with_names(fields))
    count = rng.randint(2, min(3, len(form.fields)))
    end = rng.choice(("first", "last"))
    fields = form.fields[:count] if end == "first" else form.fields[-count:]
    text = rng.choice(COPY).format(end, NUMBERS[count - 2])
    return Question(kind, text, _with_names(fields))


def _with_names(fields: Sequence[Field]) -> str:
    return ", ".join(f"{field.name} {field.value}" for field in fields)
