"""Two pictures of one family and a question about one of them."""

from dataclasses import dataclass
from random import Random

from PIL import Image

import charts
import forms
import scenes
from questions import Question

MAKERS = (scenes, forms, charts)
ORDINALS = ("first", "second")


@dataclass(frozen=True)
class Pair:
    family: int  # of MAKERS
    pictures: tuple  # two of them

    @property
    def facts(self) -> object:
        return tuple(picture.facts for picture in self.pictures)


def sample(rng: Random, grid: int) -> Pair:
    family = rng.randrange(len(MAKERS))
    return Pair(family, tuple(MAKERS[family].sample(rng, grid) for _ in ORDINALS))


def draw(pair: Pair) -> list[Image.Image]:
    return [image for picture in pair.pictures for image in MAKERS[pair.family].draw(picture)]


BEFORE = "look at the {} picture only. {}"
BEHIND = "{}. i mean the {} picture"


def ask(rng: Random, pair: Pair) -> Question:
    which = rng.randrange(2)
    asked = MAKERS[pair.family].ask(rng, pair.pictures[which])
    if asked.text.endswith("?") or rng.random() < 0.5:
        text = BEFORE.format(ORDINALS[which], asked.text)
    else:
        text = BEHIND.format(asked.text, ORDINALS[which])
    return Question(ORDINALS[which], text, asked.answer)
