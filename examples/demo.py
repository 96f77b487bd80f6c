"""A form, a chart and a scene: what a model answers over its full cache, and over a tenth of it.

The small model of bench/evidence, which was trained on such pictures, answers a question about each
of three that it has never seen: over its full cache, and over the visual tokens that AirCache
keeps. Prints the answers, which of them are right, what they cost and what each layer kept; the
same with the pictures goes to an HTML page and a PNG.

    python examples/demo.py [--model FOLDER] [--retention 0.1] [--output demo]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.utils import logging

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "bench" / "evidence"))

import dataset  # noqa: E402
from aircache_ext.cli import info, run, table  # noqa: E402
from aircache_ext.cli.ask import ask, tell  # noqa: E402
from aircache_ext.cli.story import Answer, Poster, Story, milliseconds, percent, verdict  # noqa: E402
from aircache_ext.hf import CompressedCache  # noqa: E402
from aircache_ext.hf.checkpoint import load, read  # noqa: E402

WEIGHTS = ROOT / "bench" / "evidence" / "weights"
EVIDENCE = ROOT / "bench" / "results" / "evidence.json"
# Per family the kind of question with the longest answers, and what its picture is called.
ASKED = {"forms": ("copy", "form"), "charts": ("list", "chart"), "scenes": ("list", "scene")}
LONGEST_ANSWER = 80  # tokens
TIMES = 5  # that every question is asked, for the clock


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if not (options.model / "config.json").exists():
        print(f"no model is in {options.model}: `make evidence-model` trains one, for hours")
        return 1
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # there is too little to do for two
    model, processor = load(options.model, "cpu", "float32")
    paint = table.Paint.for_stdout()
    print(introduction(model, options))

    first, *_ = examples = choose(model)
    story_of(model, processor, first, options.retention, times=1)  # warms libraries up
    stories = []
    for example in examples:
        stories.append(story_of(model, processor, example, options.retention, TIMES))
        print("\n" + table.show(stories[-1], paint))
    print("\n" + results(stories, paint))

    known = evidence(EVIDENCE) if options.model.resolve() == WEIGHTS else []
    for line in known:
        print(f"  {line}")
    run.write(poster(stories, options.retention, [*known, *notes(model)]), options.output)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(
        description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="a model of bench/evidence")
    parser.add_argument("--retention", type=float, default=0.1, help="share of tokens that stays")
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), help="PNG and HTML page, without ending"
    )
    return parser.parse_args(arguments)


def choose(model: Any) -> list[tuple[int, dataset.Example]]:
    """The first test question of each family that wants a long answer, and its number."""
    grid = int(model.config.image_seq_length**0.5)
    chosen = []
    for family, (kind, _) in ASKED.items():
        numbered = ((i, dataset.example(family, "test", i, grid)) for i in itertools.count())
        chosen.append(next((i, example) for i, example in numbered if example.kind == kind))
    return chosen


def story_of(
    model: Any, processor: Any, numbered: tuple[int, dataset.Example], retention: float, times: int
) -> Story:
    """Asked over both caches, ``times`` times in turns."""
    number, example = numbered
    photo = example.images[0]
    inputs = read(processor, [[photo]], [example.instruction])

    def answer(cache: Cache) -> Answer:
        return ask(model, processor.tokenizer, inputs, cache, LONGEST_ANSWER, aloud=False)

    full, compressed = [], []
    for _ in range(times):
        full.append(answer(DynamicCache(config=model.config)))
        with CompressedCache(model, retention=retention, processor=processor) as cache:
            compressed.append(answer(cache))
            story = tell(
                model,
                processor,
                example.instruction,
                photo,
                inputs,
                cache,
                compressed[-1],
                full[-1],
                heading=f"A {ASKED[example.family][1]}, number {number} of the test split",
                asked=example.question,
                truth=example.answer,
            )
    return replace(story, full=in_the_middle(full), compressed=in_the_middle(compressed))


def in_the_middle(answers: Sequence[Answer]) -> Answer:
    """The answer, with the median of each time."""

    def median(time: Callable[[Answer], float]) -> float:
        return statistics.median(map(time, answers))

    return replace(
        answers[0],
        prefill=median(lambda answer: answer.prefill),
        compression=median(lambda answer: answer.compression),
        per_token=median(lambda answer: answer.per_token),
    )


# ---- what is said about them ---------------------------------------------------------------------


def introduction(model: Any, options: argparse.Namespace) -> str:
    side = model.config.vision_config.image_size
    grid = int(model.config.image_seq_length**0.5)
    folder = options.model.resolve()
    if folder.is_relative_to(ROOT):
        folder = folder.relative_to(ROOT)
    share, tokens = percent(options.retention), f"{grid} x {grid} = {grid**2} visual tokens"
    return f"""\
AirCache keeps {share} of the visual tokens, once, right after the question is read.

  model        {size_of(model)}; {folder}
  pictures     {side} x {side} pixels, {tokens}; none was trained on
  computed on  {hardware()}
  maps         a visual token is half a character: █ kept, · dropped"""


def size_of(model: Any) -> str:
    weights = sum(weight.numel() for weight in model.parameters())
    layers = model.config.text_config.num_hidden_layers
    return f"{type(model).__name__}, {weights / 1e6:.1f} million weights, {layers} layers"


def hardware() -> str:
    return f"{info.processor()}, one thread, fp32, torch {torch.__version__}"


def results(stories: Sequence[Story], paint: table.Paint) -> str:
    """One line a picture."""
    heads = ["visual KiB", "all KiB", "prefill", "compress", "per token, ms"]
    lines = [f"  {'':<9}{'full cache':<12}{list(stories[0].answers)[1]:<11}{_columns(heads)}"]
    for story, (_, name) in zip(stories, ASKED.values(), strict=True):
        full, compressed = story.full, story.compressed
        assert full is not None
        over_full, at_share = (verdict(mark) for mark in marks_of(story))
        numbers = [
            _change(*(count / 2**10 for count in story.visual_bytes), digits=0),
            _change(full.cache_bytes / 2**10, compressed.cache_bytes / 2**10, digits=0),
            milliseconds(compressed.prefill),
            milliseconds(compressed.compression),
            _change(1e3 * full.per_token, 1e3 * compressed.per_token, digits=1),
        ]
        marks = paint(f"{over_full:<12}", over_full) + paint(f"{at_share:<11}", at_share)
        lines.append(f"  {name:<9}{marks}{_columns(numbers)}")
    return "\n".join([table.heading("All three", paint), *lines])


def _columns(cells: Sequence[str]) -> str:
    widths = (12, 14, 11, 11, 15)
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _change(before: float, after: float, digits: int) -> str:
    return f"{before:,.{digits}f} -> {after:,.{digits}f}"


def marks_of(story: Story) -> list[bool]:
    """Whether the answers are right, the one over the full cache first."""
    return [story.right(answer) is True for answer in story.answers.values()]


def poster(stories: Sequence[Story], retention: float, notes: list[str]) -> Poster:
    lead = (
        "A small vision-language model, trained in this repository, answers a question about each "
        "of three pictures that it has never seen: over its full cache, and over what AirCache "
        "keeps of it, once, right after the question is read."
    )
    right = [sum(marks) for marks in zip(*map(marks_of, stories), strict=True)]
    names = ["right over the full cache", f"right {list(stories[0].answers)[1]}"]
    facts = [(f"{n} of {len(stories)}", name) for n, name in zip(right, names, strict=True)]
    before, after = (count / 2**10 for count in stories[0].visual_bytes)
    facts.append((f"{after:.0f} of {before:.0f} KiB", "of a picture's keys and values stay"))
    title = f"What a model still sees in {percent(retention)} of its visual cache"
    return Poster(title, [lead], [*stories], facts, notes)


def evidence(path: Path) -> list[str]:
    """What more questions than three say, if `make evidence` was run."""
    if not path.exists():
        return []
    rows = {
        (row["family"], row["method"], row["retention"]): row
        for row in json.loads(path.read_text())["rows"]
    }
    lines = []
    for family, (_, name) in ASKED.items():
        full, tenth = rows.get((family, "full cache", 1.0)), rows.get((family, "AirCache", 0.1))
        if full and tenth:
            lines.append(
                f"Of {tenth['n']:,} questions about a {name}, {full['accuracy']:.1%} are answered "
                f"right over the full cache, {tenth['accuracy']:.1%} at 10 %."
            )
    return lines


def notes(model: Any) -> list[str]:
    return [
        f"{size_of(model)}; {hardware()}. Times are medians of {TIMES} runs; the prefill is the "
        "time until the first token, without the compression.",
        "The questions are the first ones of the test split that want a long answer, whatever "
        "comes out. The first token of an answer is chosen before anything is dropped. A model and "
        "a prompt this small do not wait for their cache: what is saved here is memory.",
    ]


if __name__ == "__main__":
    sys.exit(main())
