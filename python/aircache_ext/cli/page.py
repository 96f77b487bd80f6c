"""The same as one HTML file that needs nothing else: it can be mailed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from aircache_ext.cli.story import Answer, Poster, Story, around, compared, percent, verdict

LONGEST_SIDE = 900  # pixels of a photograph in the page
SMALL = 300  # pixels; a smaller picture is kept as it is, and its pixels are shown
SIGNS = {"right": "✓", "wrong": "✗"}


def render(poster: Poster) -> str:
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    lead = "".join(f'<p class="lead">{escape(line)}</p>\n' for line in poster.lead)
    notes = "".join(f"<p>{escape(line)}</p>\n" for line in poster.notes)
    facts = "".join(
        f"<li><b>{escape(number)}</b> {escape(what)}</li>" for number, what in poster.facts
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(poster.title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(poster.title)}</h1>
{lead}{f'<ul class="facts">{facts}</ul>' if facts else ""}
</header>
{"".join(map(_section, poster.stories))}<footer>
{notes}</footer>
</body>
</html>
"""


def _section(story: Story) -> str:
    photo = _data_uri(story.photo)
    small = " small" if _is_small(story.photo) else ""
    style = f' style="--photo: url({photo})"' if story.grid.on_photo else ""
    heading = f"<h2>{escape(story.heading)}</h2>" if story.heading else ""
    figures = "".join(_figure(story, layer) for layer in story.cells)
    return f"""<section class="story"{style}>
{heading}
<div class="top">
<img class="photo{small}" src="{photo}" alt="the picture">
<div>
<p class="question">{_marked(around(story.question, story.asked), "b", True)}</p>
<dl>{_answers(story)}</dl>
</div>
{_costs(story)}
</div>
<h3>What each layer kept <span class="soft">{_note(story)}</span></h3>
<div class="layers">{figures}</div>
</section>
"""


def _note(story: Story) -> str:
    rows, columns = story.grid.rows, story.grid.columns
    if story.grid.on_photo:
        return f"of {rows} x {columns} visual tokens; dark ones were dropped"
    return (
        f"of {story.visual_tokens:,} visual tokens, in their order, row by row: how this model "
        "lays them over the picture is not known here. Dark ones were dropped"
    )


def _answers(story: Story) -> str:
    entries = [] if story.truth is None else [_entry("true answer", escape(story.truth), "")]
    for name, answer in story.answers.items():
        said = _marked(compared(answer.text, story.truth), 'span class="off"', False)
        entries.append(_entry(name, said, _mark(story, answer)))
    return "".join(entries)


def _entry(name: str, text: str, mark: str) -> str:
    return f"<dt>{escape(name)}{mark}</dt><dd>{text}</dd>"


def _mark(story: Story, answer: Answer) -> str:
    word = verdict(story.right(answer))
    return f' <span class="mark {word}">{SIGNS[word]} {word}</span>' if word else ""


def _marked(stretches: Sequence[tuple[str, bool]], tag: str, which: bool) -> str:
    """Text with its stretches of one kind in a tag."""
    end = tag.partition(" ")[0]
    return "".join(
        f"<{tag}>{escape(text)}</{end}>" if kind == which else escape(text)
        for text, kind in stretches
    )


def _costs(story: Story) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in story.answers)
    rows = "".join(
        f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in story.costs().items()
    )
    return f"<table><tr><th></th>{head}</tr>{rows}</table>"


def _figure(story: Story, layer: int) -> str:
    cells, kept = story.cells[layer], story.kept[layer]
    rows, columns = story.grid.rows, story.grid.columns
    gone = "".join(
        f"M{begin} {y}h{end - begin}v1h{begin - end}z"
        for y, row in enumerate(cells)
        for begin, end in _runs(row)
    )
    small = " small" if _is_small(story.photo) else ""
    width, height = story.photo.size if story.grid.on_photo else (columns, rows)
    bar = 100 * kept / max(1, *story.kept.values())
    return (
        f'<figure><div class="map{small}" style="aspect-ratio: {width} / {height}">'
        f'<svg viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" role="img" '
        f'aria-label="layer {layer}"><path d="{gone}"/></svg></div>'
        f'<figcaption><span class="soft">layer {layer}</span>'
        f'<span><span class="count">{kept:,}, </span>{percent(kept / story.visual_tokens)}</span>'
        "</figcaption>"
        f'<div class="bar"><i style="width: {bar:.1f}%"></i></div></figure>'
    )


def _runs(row: list[bool]) -> list[tuple[int, int]]:
    """Begin and end of the stretches of dropped cells."""
    runs, begin = [], None
    for x, stays in enumerate([*row, True]):
        if not stays and begin is None:
            begin = x
        elif stays and begin is not None:
            runs.append((begin, x))
            begin = None
    return runs


def _is_small(photo: Image.Image) -> bool:
    return max(photo.size) <= SMALL


def _data_uri(photo: Image.Image) -> str:
    photo = photo.convert("RGB")
    kind, options = ("png", {}) if _is_small(photo) else ("jpeg", {"quality": 85})
    photo.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    photo.save(file, kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(file.getvalue()).decode()
