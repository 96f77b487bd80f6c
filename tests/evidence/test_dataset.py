"""What is asked has the answer that follows from the picture, and no picture is in both splits."""

import dataclasses
import itertools
import re
from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw

import charts
import dataset
import fonts
import forms
import scenes

FAMILIES = [*dataset.FAMILIES]
SINGLE = ["scenes", "search", "forms", "charts"]


def pictures(family, count, grid=dataset.GRID):
    """Facts with the generator's own seeds, and the generator to ask on."""
    for index in range(count):
        rng = Random(index)
        yield dataset.FAMILIES[family].sample(rng, grid), rng


@pytest.mark.parametrize("grid", [6, 12, 18])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_number_gives_the_same_example(family, grid):
    first, second = (dataset.example(family, "test", 7, grid) for _ in range(2))
    assert (first.instruction, first.answer) == (second.instruction, second.answer)
    for a, b in zip(first.images, second.images, strict=True):
        assert a.tobytes() == b.tobytes() and a.size == (8 * grid, 8 * grid)
    other = dataset.example(family, "test", 8, grid)
    assert other.images[0].tobytes() != first.images[0].tobytes()


def test_examples_do_not_depend_on_the_process():
    """Python's own hashes differ from run to run; nothing here may go through them."""
    example = dataset.example("scenes", "train", 0, grid=12)
    assert example.instruction == "what is the colour of the cross? hello."
    assert example.answer == "the cross is purple"


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_share_no_picture(family, monkeypatch):
    drawn = {"train": set(), "test": set()}
    maker = dataset.FAMILIES[family]

    def spy(picture, draw=maker.draw):
        drawn[split].add(picture.facts)
        return draw(picture)

    monkeypatch.setattr(maker, "draw", spy)
    for split in drawn:
        for index in range(150):
            dataset.example(family, split, index, grid=6)
    assert len(drawn["train"]) > 140 and len(drawn["test"]) > 140
    assert not drawn["train"] & drawn["test"]
    for split, facts in drawn.items():
        assert all(dataset.split_of(fact) == split for fact in facts)


def test_how_a_picture_is_drawn_does_not_choose_its_split():
    for picture, _ in pictures("forms", 20):
        again = dataclasses.replace(picture, style=picture.style + 1)
        assert dataset.split_of(again.facts) == dataset.split_of(picture.facts)


# ---- answers, derived from the facts in another way than the generator's ------------------------


def scene_answer(text, scene):
    """Sorts by what it sees instead of taking the order that it was given."""
    things = sorted(scene.things, key=lambda thing: 100 * thing.row + thing.column)
    words = re.findall("[a-z]+", text)
    named = [thing for word in words for thing in things if thing.shape == word]
    if "row" in words or "where" in words:
        return ", ".join(f"the {t.shape} is in row {t.row}, column {t.column}" for t in named)
    if "colour" in words:
        return ", ".join(f"the {thing.shape} is {thing.colour}" for thing in named)
    if "many" in words or "count" in words:
        return f"there are {len(things)} objects in {len(Counter(t.row for t in things))} rows"
    colours = [word for word in words if word in scenes.COLOURS]
    return ", ".join(
        f"{thing.colour} {thing.shape}"
        for thing in things
        if not colours or thing.colour in colours
    )


def form_answer(text, form):
    values = {field.name: field.value for field in form.fields}
    words = re.findall("[a-z]+", text)
    names = [word for word in words if word in values]
    if "last" in words or "first" in words:
        count = {"two": 2, "three": 3}[next(word for word in words if word in ("two", "three"))]
        inside = sorted(form.fields, key=lambda field: field.line)
        names = [field.name for field in (inside[:count] if "first" in words else inside[-count:])]
        return ", ".join(f"{name} {values[name]}" for name in names)
    if len(names) == 1:
        return values[names[0]]
    return ", ".join(f"{name} {values[name]}" for name in names)


def chart_answer(text, chart):
    values = {bar.name: bar.value for bar in sorted(chart.bars, key=lambda bar: bar.line)}
    names = [word for word in re.findall("[a-z]+", text) if word in values]
    if names:
        values = {name: values[name] for name in names}
    for words, extreme in (("highest|largest", max), ("lowest|smallest", min)):
        if re.search(words, text):
            best = extreme(values.values())
            values = {name: value for name, value in values.items() if value == best}
    return ", ".join(f"{name} is {value}" for name, value in values.items())


def search_answer(text, picture):
    return (chart_answer if "value" in text else scene_answer)(text, picture)


DERIVED = {
    "scenes": scene_answer,
    "search": search_answer,
    "forms": form_answer,
    "charts": chart_answer,
}


@pytest.mark.parametrize("grid", [6, 12, 18])
@pytest.mark.parametrize("family", SINGLE)
def test_answers_follow_from_the_facts(family, grid):
    kinds = Counter()
    for picture, rng in pictures(family, 200, grid):
        question = dataset.FAMILIES[family].ask(rng, picture)
        assert question.answer == DERIVED[family](question.text, picture), question
        kinds[question.kind] += 1
    assert "all" not in kinds  # it is the evaluation's word for every question of a family
    assert set(kinds) == set(dataset.FAMILIES[family].KINDS) and min(kinds.values()) > 10


def test_a_pair_is_asked_about_the_picture_that_it_names():
    for picture, rng in pictures("pairs", 100, grid=6):
        question = dataset.FAMILIES["pairs"].ask(rng, picture)
        (which,) = re.findall("(first|second) picture", question.text)
        family = ["scenes", "forms", "charts"][picture.family]
        asked = re.sub(
            f"look at the {which} picture only. |. i mean the .* picture", "", question.text
        )
        chosen = picture.pictures[which == "second"]
        assert question.answer == DERIVED[family](asked, chosen)


# ---- the pictures show the facts ----------------------------------------------------------------


def test_scenes_show_the_colours_where_they_say():
    for scene, _ in pictures("scenes", 40):
        pixels = np.asarray(scenes.draw(scene)[0]).astype(int)
        for thing in scene.things:
            y, x = scenes.CELL * (thing.row - 1), scenes.CELL * (thing.column - 1)
            cell = pixels[y : y + scenes.CELL, x : x + scenes.CELL].reshape(-1, 3)
            saturated = cell[(cell.max(1) - cell.min(1) > 80) | (cell.max(1) < 60)]
            nearest = [
                min(scenes.COLOURS, key=lambda name: abs(pixel - scenes.COLOURS[name]).sum())
                for pixel in saturated
            ]
            assert Counter(nearest).most_common(1)[0][0] == thing.colour


def test_every_shape_looks_different():
    seen = set()
    for shape in scenes.SHAPES:
        image = Image.new("L", (16, 16))
        scenes._shape(ImageDraw.Draw(image), shape, 1, 1, 12, 255)
        seen.add(image.tobytes())
    assert len(seen) == len(scenes.SHAPES)


@pytest.mark.parametrize(("grid", "left", "largest"), [(6, 24, 4), (12, 40, 9), (18, 40, 9)])
def test_charts_show_the_values_as_lengths(grid, left, largest):
    seen = set()
    for chart, _ in pictures("charts", 40, grid):
        pixels = np.asarray(charts.draw(chart)[0]).astype(int)
        unit = (len(pixels) - left) // (largest + 1)
        for bar in chart.bars:
            row = pixels[charts.PITCH * bar.line + 3, left + 1 :]
            length = int((abs(row - row[0]).sum(1) < 3).sum())
            assert round(length / unit) == bar.value
            seen.add(bar.value)
    assert seen == {*range(1, largest + 1)}


@pytest.mark.parametrize("grid", [12, 18])
def test_forms_show_every_character(grid):
    """Each box is compared with every character, drawn by itself; the boxes begin where most is
    found."""
    every, pitch = forms.DIGITS + forms.LETTERS, forms.PITCH
    edges = [pitch * (5 + margin) + left for margin in range(grid - 11) for left in (0, 1)]
    glyphs = {size: np.stack([_glyph(c, size) for c in every]) for size in (8, 9)}
    wrong = total = 0
    for form, _ in pictures("forms", 15, grid):
        pixels = 255 - np.asarray(forms.draw(form)[0].convert("L")).astype(float)
        pixels = np.pad(pixels, ((1, 0), (0, 1)))
        characters = [
            (field.line, place, every.index(character))
            for field in form.fields
            for place, character in enumerate(field.value)
        ]
        best = (0.0, 0)  # likeness, how many are the most like themselves
        for edge, (size, top) in itertools.product(edges, ((8, 0), (8, -1), (9, 0))):
            likeness, right = 0.0, 0
            for line, place, index in characters:
                y, x = 1 + top + line * pitch, edge + place * pitch
                found = glyphs[size] @ _normalised(pixels[y : y + pitch - 1, x : x + pitch])
                likeness, right = likeness + found[index], right + (found.argmax() == index)
            best = max(best, (likeness, right))
        wrong, total = wrong + len(characters) - best[1], total + len(characters)
    assert total > 400 and wrong / total < 0.01, wrong / total


def _glyph(character, size):
    image = Image.new("L", (forms.PITCH, forms.PITCH))
    pen = ImageDraw.Draw(image)
    pen.text((4, 7), character, fill=255, font=fonts.mono(size), anchor="ms")
    return _normalised(np.asarray(image)[:-1].astype(float))


def _normalised(pixels):
    centred = pixels.ravel() - pixels.mean()
    return centred / np.linalg.norm(centred)
