"""Places: pictures as in scenes; where the things of a shape are."""

from random import Random

import scenes
from questions import Question
from scenes import Scene, draw

__all__ = ["KINDS", "ask", "draw", "sample"]


def sample(rng: Random, grid: int) -> Scene:
    """A scene in which something can be told by its shape alone."""
    while not (scene := scenes.sample(rng, grid)).unique:
        pass
    return scene


WHERE = ["where is {}?", "in which row and which column is {}?"]
KINDS = ("one", "some")


def ask(rng: Random, scene: Scene) -> Question:
    things = rng.sample(scene.unique, min(len(scene.unique), rng.randint(1, 3)))
    return Question(
        KINDS[len(things) > 1],
        rng.choice(WHERE).format(" and ".join(f"the {thing.shape}" for thing in things)),
        ", ".join(f"the {t.shape} is in row {t.row}, column {t.column}" for t in things),
    )
