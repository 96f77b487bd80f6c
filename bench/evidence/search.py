"""Search: pictures as in scenes; what has some colour, and where the things of some shape are."""

from random import Random

import scenes
from questions import Question
from scenes import Scene, draw, sample

__all__ = ["KINDS", "ask", "draw", "sample"]

OF_COLOUR = ["list all {} objects in reading order", "which objects are {}?"]
WHERE = ["where is {}?", "in which row and which column is {}?"]
KINDS = ("of colour", "where")


def ask(rng: Random, scene: Scene) -> Question:
    if rng.choice(KINDS) == "where" and scene.unique:
        things = scenes.some(rng, scene.unique)
        answer = ", ".join(f"the {t.shape} is in row {t.row}, column {t.column}" for t in things)
        return Question("where", rng.choice(WHERE).format(scenes.named(things)), answer)
    colour = rng.choice(scene.things).colour
    found = [thing.name for thing in scene.things if thing.colour == colour]
    return Question("of colour", rng.choice(OF_COLOUR).format(colour), ", ".join(found))
