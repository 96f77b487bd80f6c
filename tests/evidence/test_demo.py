"""The demo from beginning to end, on a small model of the evidence's class that knows nothing."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

import dataset
import model as small
import processor
from aircache_ext.cli import table
from html_page import Page

ROOT = Path(__file__).parents[2]
GRID, LAYERS = 6, 3


@pytest.fixture(scope="module")
def demo():
    sys.path.insert(0, str(ROOT / "examples"))
    import demo

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "TIMES", 1)
        patch.setattr(demo, "LONGEST_ANSWER", 6)
        yield demo
    torch.set_num_threads(threads)
    sys.path.remove(str(ROOT / "examples"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    LlavaForConditionalGeneration(small.config(GRID, LAYERS)).save_pretrained(folder)
    processor.processor(GRID).save_pretrained(folder)
    return folder


def run(demo, weights, output, capsys):
    assert demo.main(["--model", str(weights), "--output", str(output), "--retention", "0.25"]) == 0
    page = Page(output.with_name(f"{output.name}.html").read_text(encoding="utf-8"))
    return capsys.readouterr().out, page


def answers(page):
    """Per picture: the true answer, over the full cache, over the compressed one."""
    assert [entry.name for entry in page.entries] == ["true answer", "full cache", "at 25 %"] * 3
    return [page.entries[first : first + 3] for first in range(0, 9, 3)]


def test_what_it_prints_and_draws(demo, weights, tmp_path, capsys):
    printed, page = run(demo, weights, tmp_path / "new" / "demo", capsys)
    named = (str(weights), str(tmp_path))  # paths are as long as they are
    lines = [line for line in printed.splitlines() if not any(path in line for path in named)]
    assert max(map(len, lines)) <= 100
    assert "\033" not in printed  # it goes to no terminal

    assert page.outside == []
    assert page.figures == 3 * LAYERS
    kept = 3 * LAYERS * GRID**2 - sum(page.dropped)
    assert kept == 3 * LAYERS * GRID**2 // 4
    maps = "\n".join(line for line in printed.splitlines() if set(line) <= set(" █▀▄·"))
    assert kept == 2 * maps.count("█") + maps.count("▀") + maps.count("▄")

    for truth, *_ in answers(page):
        assert f"true answer  {truth.text}" in printed
    picture = Image.open(tmp_path / "new" / "demo.png")
    assert picture.width > 1000 and len(picture.convert("L").getcolors()) > 100


def test_right_is_what_is_equal_to_the_true_answer(demo, weights, tmp_path, capsys, monkeypatch):
    """The model knows nothing, so for the chart the truth is made to be what it said."""
    _, page = run(demo, weights, tmp_path / "demo", capsys)
    (_, said, _) = answers(page)[1]
    honest = dataset.example

    def example(family, *arguments):
        told = honest(family, *arguments)
        return replace(told, answer=said.text) if family == "charts" else told

    monkeypatch.setattr(dataset, "example", example)
    printed, page = run(demo, weights, tmp_path / "demo", capsys)
    marks = []
    for truth, *both in answers(page):
        equal = ["right" if answer.text == truth.text else "wrong" for answer in both]
        assert [answer.mark for answer in both] == equal
        marks.append(equal)
    assert marks[0] == ["wrong", "wrong"] and marks[1][0] == "right"

    shown = re.findall(r"^  (?:form|chart|scene) +(right|wrong) +(right|wrong) ", printed, re.M)
    assert [list(pair) for pair in shown] == marks
    for column, fact in enumerate(page.facts[:2]):
        assert fact.startswith(f"{[pair[column] for pair in marks].count('right')} of 3 right")


def test_questions_are_the_first_of_their_kind(demo, weights):
    model = LlavaForConditionalGeneration.from_pretrained(weights)
    for number, example in demo.choose(model):
        assert example.kind == demo.ASKED[example.family][0]
        kinds = [dataset.example(example.family, "test", i, GRID).kind for i in range(number + 1)]
        assert kinds.index(example.kind) == number
        assert example.images[0].size == (GRID * 8, GRID * 8)
        assert example.question in example.instruction


def test_colours_change_no_text(demo, weights):
    model, process = demo.load(weights, "cpu", "float32")
    story = demo.story_of(model, process, demo.choose(model)[0], 0.25, 1)
    plain, painted = (table.show(story, table.Paint(colours)) for colours in (False, True))
    assert painted != plain
    stripped = re.sub(r"\033\[\d+m", "", painted)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


def test_no_model(demo, tmp_path, capsys):
    assert demo.main(["--model", str(tmp_path / "nowhere")]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "nowhere" in line and "make evidence-model" in line


def test_what_more_questions_say(demo, tmp_path):
    path = tmp_path / "evidence.json"
    assert demo.evidence(path) == []
    rows = [
        ("forms", "full cache", 1.0, 0.9812),
        ("forms", "AirCache", 0.1, 0.97),
        ("forms", "AirCache", 0.05, 0.5),
        ("forms", "SnapKV", 0.1, 0.3),
        ("charts", "full cache", 1.0, 0.99),  # not compared
    ]
    names = ("family", "method", "retention", "accuracy")
    told = [dict(zip(names, row, strict=True)) | {"n": 3000} for row in rows]
    path.write_text(json.dumps({"rows": told}))
    (line,) = demo.evidence(path)
    assert re.findall(r"\d[\d.,]*%?", line) == ["3,000", "98.1%", "97.0%", "10"]
