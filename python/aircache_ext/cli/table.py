"""The same for a terminal of 100 columns, in colour if it is one."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from aircache_ext.cli.flow import flow
from aircache_ext.cli.story import Story, around, compared, percent, verdict

WIDTH, INDENT = 100, 15  # columns; names stand in the first ones
HALVES = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): "·"}
KEPT = re.compile("[█▀▄]+")
CODES = {"right": "32", "wrong": "31", "kept": "33", "soft": "2", "strong": "1"}


@dataclass(frozen=True)
class Paint:
    colours: bool

    @staticmethod
    def for_stdout() -> Paint:
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        return Paint(sys.stdout.isatty() and not plain)

    def __call__(self, text: str, kind: str) -> str:
        """``kind`` is one of ``CODES``, or empty."""
        return f"\033[{CODES[kind]}m{text}\033[0m" if self.colours and kind and text else text


def show(story: Story, paint: Paint) -> str:
    """The question, the answers, and a map of what each layer kept."""
    kinds = {True: "strong", False: "soft"}
    question = [(text, kinds[matters]) for text, matters in around(story.question, story.asked)]
    parts = [heading(story.heading, paint), _entry("question", question, paint)]
    if story.truth is not None:
        parts.append(_entry("true answer", [(story.truth, "")], paint))
    for name, answer in story.answers.items():
        said = [
            (text, "" if right else "wrong") for text, right in compared(answer.text, story.truth)
        ]
        parts.append(_entry(name, said, paint, verdict(story.right(answer))))
    return "\n".join([*parts, "", maps(story, paint)])


def heading(text: str, paint: Paint) -> str:
    return paint(f"{text} {'─' * (WIDTH - len(text) - 1)}", "strong")


def _entry(name: str, stretches: list[tuple[str, str]], paint: Paint, mark: str = "") -> str:
    """A name, its text in as many lines as it takes, and a mark at the end of the first."""
    room = WIDTH - INDENT - len("wrong  ")
    lines = []
    for line in flow(stretches, len, room):
        missing = room - sum(len(text) for text, _ in line)
        lines.append("".join(paint(text, kind) for text, kind in line) + " " * missing)
    lines[0] += "  " + paint(mark, mark)
    names = ["  " + name] + [""] * (len(lines) - 1)
    return "\n".join(
        f"{left:<{INDENT}}{line}".rstrip() for left, line in zip(names, lines, strict=True)
    )


def maps(story: Story, paint: Paint) -> str:
    """A map a layer, two rows of the grid in a line; as many beside each other as there is room."""
    step = max(story.grid.columns, len("layer 00")) + 4
    blocks = []
    for layer, cells in story.cells.items():
        above, below = cells[::2], [*cells[1::2], *[[False] * len(cells[0])] * (len(cells) % 2)]
        lines = [
            "".join(HALVES[pair] for pair in zip(*rows, strict=True))
            for rows in zip(above, below, strict=True)
        ]
        share = percent(story.kept[layer] / story.visual_tokens)
        blocks.append([f"layer {layer}", *lines, share])
    side_by_side = max(1, (WIDTH - 2) // step)
    shown = []
    for first in range(0, len(blocks), side_by_side):
        for line in zip(*blocks[first : first + side_by_side], strict=True):
            plain = "  " + "".join(f"{x:<{step}}" for x in line).rstrip()
            shown.append(KEPT.sub(lambda found: paint(found[0], "kept"), plain))
        shown.append("")
    return "\n".join(shown[:-1])


def costs(story: Story) -> str:
    """What the answers cost, side by side."""
    rows = {"": list(story.answers)} | story.costs()
    return "\n".join(
        f"{name:<24}" + "".join(f"{cell:>14}" for cell in cells) for name, cells in rows.items()
    )
