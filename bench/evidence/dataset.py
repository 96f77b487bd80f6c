"""Examples of all families: a picture, an instruction, its answer.

Every example is drawn from a generator seeded by its family, split and index, so any of them can be
made again by itself. The splits share no picture: what a picture says, not how it is drawn, decides
by its digest which split it belongs to.
"""

import hashlib
from dataclasses import dataclass
from random import Random

from PIL import Image

import charts
import forms
import pairs
import scenes
import search
from questions import instruction

FAMILIES = {
    "scenes": scenes,
    "search": search,
    "forms": forms,
    "charts": charts,
    "pairs": pairs,
}
GRID = 18  # patches a side of the pictures that the trained model is asked about
TEST_SHARE = 8  # one of so many pictures is a test picture


@dataclass(frozen=True)
class Example:
    family: str
    kind: str  # of question
    images: list[Image.Image]
    instruction: str
    answer: str
    question: str  # the part of the instruction that matters


def split_of(facts: object) -> str:
    digest = hashlib.sha256(repr(facts).encode()).digest()
    return "test" if digest[0] % TEST_SHARE == 0 else "train"


def examples(
    family: str, split: str, index: int, questions: int, grid: int = GRID, clauses: int = 4
) -> list[Example]:
    """``questions`` about picture number ``index`` of a family's split: pictures of ``grid`` x
    ``grid`` patches, and up to ``clauses`` clauses in an instruction that do not matter."""
    maker = FAMILIES[family]
    rng = Random(f"{family} {split} {index} {grid} {clauses}")
    picture = maker.sample(rng, grid)
    while split_of(picture.facts) != split:
        picture = maker.sample(rng, grid)
    images = maker.draw(picture)
    made = []
    for _ in range(questions):
        question = maker.ask(rng, picture)
        text = instruction(question.text, rng, rng.randint(0, clauses))
        made.append(Example(family, question.kind, images, text, question.answer, question.text))
    return made


def example(family: str, split: str, index: int, grid: int = GRID, clauses: int = 4) -> Example:
    """The first of the :func:`examples`."""
    return examples(family, split, index, 1, grid, clauses)[0]
