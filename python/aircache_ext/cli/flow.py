"""Text of several kinds, broken into lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

Kind = TypeVar("Kind")


def flow(
    stretches: Sequence[tuple[str, Kind]], width: Callable[[str], float], most: float
) -> list[list[tuple[str, Kind]]]:
    """Lines of stretches, broken between words, or within one that is too long for a line.

    Args:
        stretches: text and its kind; a word may go on from one into the next.
        width: of a text without line breaks.
        most: that a line may have.
    """
    characters = [(c, kind) for text, kind in stretches for c in text]
    lines: list[list[tuple[str, Kind]]] = []
    line: list[tuple[str, Kind]] = []
    space: list[tuple[str, Kind]] = []
    for blank, group in groupby(characters, key=lambda character: character[0].isspace()):
        word = list(group)
        if blank:
            space = [(" ", word[0][1])] if line else []
            continue
        if line and width(_text(line + space + word)) > most:
            lines.append(line)
            line, space = [], []
        line = line + space + word
        while width(_text(line)) > most and len(line) > 1:
            fits = next(
                n for n in range(len(line) - 1, 0, -1) if n == 1 or width(_text(line[:n])) <= most
            )
            lines.append(line[:fits])
            line = line[fits:]
    lines.append(line)
    return [
        [
            (_text(run), kind)
            for kind, group in groupby(x, key=lambda c: c[1])
            for run in [list(group)]
        ]
        for x in lines
    ]


def _text(characters: Sequence[tuple[str, Kind]]) -> str:
    return "".join(character for character, _ in characters)
