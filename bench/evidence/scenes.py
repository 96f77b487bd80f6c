"""Scenes: coloured shapes on clutter, one in a cell of 16 x 16 pixels at most."""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

import paper
from questions import Question

CELL = 16  # pixels a side
COLOURS = {
    "red": (214, 36, 36),
    "green": (30, 140, 50),
    "blue": (35, 75, 205),
    "yellow": (236, 200, 20),
    "purple": (135, 45, 165),
    "orange": (245, 130, 20),
    "black": (20, 20, 20),
    "pink": (250, 130, 180),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "bar", "arch")


@dataclass(frozen=True)
class Thing:
    row: int  # of cells, from 1
    column: int
    colour: str
    shape: str

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    grid: int  # patches a side
    things: tuple[Thing, ...]  # in reading order
    style: int  # seed of what means nothing: sizes, offsets, clutter

    @property
    def facts(self) -> object:
        return self.things

    @property
    def unique(self) -> list[Thing]:
        """Those that their shape tells from all others."""
        shapes = [thing.shape for thing in self.things]
        return [thing for thing in self.things if shapes.count(thing.shape) == 1]


def sample(rng: Random, grid: int) -> Scene:
    """2 to 4 things on 3 x 3 cells (6 patches a side), 3 to 10 on 6 x 6 (12 a side)."""
    cells = grid * paper.PATCH // CELL
    count = rng.randint(2, 4) if grid <= 6 else rng.randint(3, 10)
    places = sorted(rng.sample(range(cells * cells), count))
    things = tuple(
        Thing(1 + place // cells, 1 + place % cells, rng.choice([*COLOURS]), rng.choice(SHAPES))
        for place in places
    )
    return Scene(grid, things, rng.getrandbits(32))


def draw(scene: Scene) -> list[Image.Image]:
    rng = Random(scene.style)
    image = paper.sheet(scene.grid, rng, tint=24, grain=5)
    paper.clutter(image, rng, marks=scene.grid)
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        size = rng.randint(12, 14)
        x = (thing.column - 1) * CELL + rng.randint(1, CELL - size - 1)
        y = (thing.row - 1) * CELL + rng.randint(1, CELL - size - 1)
        colour = tuple(c + rng.randint(-12, 10) for c in COLOURS[thing.colour])
        _shape(pen, thing.shape, x, y, size, colour)
    return [image]


def _shape(pen: ImageDraw.ImageDraw, shape: str, x: int, y: int, size: int, colour: tuple) -> None:
    last, middle, third = size - 1, size / 2, size // 3
    right, bottom = x + last, y + last
    box = (x, y, right, bottom)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([(x + middle, y), (right, bottom), (x, bottom)], fill=colour)
    elif shape == "diamond":
        corners = [(x + middle, y), (right, y + middle), (x + middle, bottom), (x, y + middle)]
        pen.polygon(corners, fill=colour)
    elif shape == "cross":
        inset = 2 * size // 5  # thin arms, or it looks like a diamond
        pen.rectangle((x + inset, y, right - inset, bottom), fill=colour)
        pen.rectangle((x, y + inset, right, bottom - inset), fill=colour)
    elif shape == "ring":
        pen.ellipse(box, outline=colour, width=third)
    elif shape == "bar":
        pen.rectangle((x, y + third, right, bottom - third), fill=colour)
    else:  # arch
        pen.rectangle((x, y, right, y + third - 1), fill=colour)
        pen.rectangle((x, y, x + third - 1, bottom), fill=colour)
        pen.rectangle((right - third + 1, y, right, bottom), fill=colour)


LIST = [
    "list all the objects in reading order",
    "what objects are there? name them from the top left to the bottom right",
    "read out every object of the picture, line by line",
]
COLOURS_OF = ["what is the colour of {}?", "name the shape and the colour of {}"]
COUNT = ["how many objects are there?", "count the objects"]
KINDS = ("list", "colour", "count")


def ask(rng: Random, scene: Scene) -> Question:
    kind = rng.choice(KINDS)
    if kind == "colour" and scene.unique:
        things = some(rng, scene.unique)
        answer = ", ".join(f"the {thing.shape} is {thing.colour}" for thing in things)
        return Question(kind, rng.choice(COLOURS_OF).format(named(things)), answer)
    if kind == "count":
        rows = {thing.row for thing in scene.things}
        answer = f"there are {len(scene.things)} objects in {len(rows)} rows"
        return Question(kind, rng.choice(COUNT), answer)
    return Question("list", rng.choice(LIST), ", ".join(thing.name for thing in scene.things))


def some(rng: Random, things: list[Thing]) -> list[Thing]:
    """Up to three."""
    return rng.sample(things, min(len(things), rng.randint(1, 3)))


def named(things: list[Thing]) -> str:
    return " and ".join(f"the {thing.shape}" for thing in things)
