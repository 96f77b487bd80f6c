"""What there is to tell about a question: table, page and picture are three ways to do it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from PIL import Image

from aircache_ext.cli.patches import Grid
from aircache_ext.hf.report import size

# A lower-case word is judged as a whole, everything else (codes, digits) character by character.
PIECE = re.compile(r"\s*(?:[a-z]+|\S)|\s+")


@dataclass(frozen=True)
class Answer:
    """What a model said over one kind of cache."""

    text: str
    tokens: int
    prefill: float
    """Seconds until the first token, without the compression."""
    compression: float
    """Seconds; 0 over a full cache."""
    per_token: float
    """Seconds for each further token; 0 if there was none."""
    cache_bytes: int
    """Of keys and values, when all was said."""


@dataclass(frozen=True)
class Story:
    """One question about one picture."""

    model: str
    question: str
    photo: Image.Image
    visual_tokens: int
    text_tokens: int
    kept: dict[int, int]
    """Visual tokens kept, by layer."""
    grid: Grid
    cells: dict[int, list[list[bool]]]
    """By layer: which cells of the grid stayed."""
    visual_bytes: tuple[int, int]
    """Of the keys and values of all visual tokens in these layers, and of those kept."""
    compressed: Answer
    full: Answer | None
    """Over the full cache, if that was asked for."""
    heading: str = ""
    asked: str = ""
    """The part of the question that matters, where the rest is beside the point."""
    truth: str | None = None
    """The right answer, where it is known."""

    @property
    def answers(self) -> dict[str, Answer]:
        """By cache."""
        both = {"full cache": self.full, f"at {percent(self.share)}": self.compressed}
        return {name: answer for name, answer in both.items() if answer is not None}

    @property
    def share(self) -> float:
        """Of the visual tokens, over all layers."""
        return sum(self.kept.values()) / (len(self.kept) * self.visual_tokens)

    def right(self, answer: Answer) -> bool | None:
        """Whether it is the right one to the last character; None where that is not known."""
        return None if self.truth is None else answer.text == self.truth

    def costs(self) -> dict[str, list[str]]:
        """What each of the answers cost, by what it is."""
        answers = self.answers.values()
        visual_bytes = self.visual_bytes[-len(answers) :]
        return {
            "visual cache": [size(count) for count in visual_bytes],
            "whole cache": [size(answer.cache_bytes) for answer in answers],
            "prefill": [milliseconds(answer.prefill) for answer in answers],
            "compression": [
                milliseconds(answer.compression) if answer.compression else "-"
                for answer in answers
            ],
            "per token": [milliseconds(answer.per_token) for answer in answers],
            "tokens": [f"{answer.tokens:,}" for answer in answers],
        }


@dataclass(frozen=True)
class Poster:
    """What page and picture show."""

    title: str
    lead: list[str]
    stories: list[Story]
    facts: list[tuple[str, str]] = field(default_factory=list)
    """The results in short: a number, and what it is of."""
    notes: list[str] = field(default_factory=list)


def percent(share: float) -> str:
    return f"{round(100 * share, 1):g} %"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{0 if seconds >= 0.1 else 1}f} ms"


def verdict(right: bool | None) -> str:
    """In a word; none where it is not known."""
    return "" if right is None else ("right" if right else "wrong")


def compared(said: str, truth: str | None) -> list[tuple[str, bool]]:
    """``said`` in stretches, and whether each stands in the ``truth``, in its order."""
    if truth is None:
        return [(said, True)]
    pieces, wanted = PIECE.findall(said), PIECE.findall(truth)
    stretches, end = [], 0
    for match in SequenceMatcher(None, pieces, wanted, autojunk=False).get_matching_blocks():
        stretches.append(("".join(pieces[end : match.a]), False))
        end = match.a + match.size
        stretches.append(("".join(pieces[match.a : end]), True))
    return [(text, right) for text, right in stretches if text]


def around(question: str, asked: str) -> list[tuple[str, bool]]:
    """``question`` in stretches, and whether each was ``asked``: all of it, where that is empty."""
    before, found, after = question.partition(asked or question)
    stretches = [(before, False), (found, True), (after, False)]
    return [(text, matters) for text, matters in stretches if text]
