"""``python -m aircache_ext evaluate``: from a checkpoint and a file of questions to the table."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from aircache_ext.evaluate import data
from aircache_ext.evaluate.data import Question
from aircache_ext.evaluate.metrics import METRICS
from aircache_ext.evaluate.records import Record
from aircache_ext.evaluate.store import Store
from aircache_ext.evaluate.variants import METHODS, Variant, variants

Answer = Callable[[Sequence[Question], Sequence[Variant]], list[list[str]]]

EVERY = 10  # seconds between two lines of progress


def main(options: argparse.Namespace) -> None:
    _check_installed()
    for name, value in (("batch", options.batch), ("limit", options.limit)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value} but must be at least 1")
    from aircache_ext.evaluate import report

    names = [*METHODS] if "all" in options.method else options.method
    compared = variants(names, options.retention)
    questions = data.load(options.data, options.limit)
    how: dict[str, object] = {
        "model": str(Path(options.model).resolve()),
        "dtype": options.dtype,
        "max_new_tokens": options.max_new_tokens,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    store = Store(options.out / "answers.jsonl", how)
    ask(_answering(options), store, questions, compared, options.batch)

    records = score(store, questions, compared, options.metric)
    title = f"{Path(options.model).resolve().name} over compressed caches"
    _say("\n" + report.write(records, names[0], how | _settings(options), title, options.out))


def ask(
    answer: Answer,
    store: Store,
    questions: Sequence[Question],
    compared: Sequence[Variant],
    batch: int,
) -> None:
    """Fills the store, ``batch`` questions at a time, and says how far it is."""

    def lacks(question: Question) -> list[Variant]:
        return [variant for variant in compared if store.get(question, variant) is None]

    batches = []
    for wanted, alike in groupby(questions, key=lacks):
        asked = list(alike) if wanted else []
        batches += [(asked[i : i + batch], wanted) for i in range(0, len(asked), batch)]
    todo = sum(len(part) * len(wanted) for part, wanted in batches)
    total = len(questions) * len(compared)
    _say(f"{total:,} answers, {total - todo:,} of them there already")
    done, began, said = 0, time.monotonic(), time.monotonic()
    for part, wanted in batches:
        for variant, texts in zip(wanted, answer(part, wanted), strict=True):
            store.add(part, variant, texts)
        done += len(part) * len(wanted)
        now = time.monotonic()
        if now - said >= EVERY or done == todo:
            left = (now - began) / done * (todo - done)
            _say(f"{done:,} of {todo:,} answers, {left / 60:.1f} minutes left")
            said = now


def score(
    store: Store, questions: Sequence[Question], compared: Sequence[Variant], metric: str
) -> list[Record]:
    """Of a store that holds all answers; ``metric`` where a question names none."""
    records = []
    for family in dict.fromkeys(question.family for question in questions):
        asked = [question for question in questions if question.family == family]
        for variant in compared:
            scores = []
            for question in asked:
                answer = store.get(question, variant)
                assert answer is not None
                scores.append(METRICS[question.metric or metric](answer, question.answers))
            records.append(Record(family, variant.method, variant.retention, scores, None))
    return records


def _answering(options: argparse.Namespace) -> Answer:
    """Reads the checkpoint at the first question: there may be none left."""
    loaded: list[Any] = []

    def answer(questions: Sequence[Question], wanted: Sequence[Variant]) -> list[list[str]]:
        from aircache_ext.evaluate.answers import answers
        from aircache_ext.hf.checkpoint import load

        if not loaded:
            _say(f"reading {options.model} ...")
            loaded.extend(load(options.model, options.device, options.dtype))
        model, processor = loaded
        return answers(model, processor, questions, wanted, options.max_new_tokens)

    return answer


def _settings(options: argparse.Namespace) -> dict[str, object]:
    from aircache_ext.evaluate import report

    return {
        "command": options.as_typed,
        "data": str(options.data.resolve()),
        "metric": options.metric,
        "versions": report.versions(),
    }


def _check_installed() -> None:
    """Before hours of answers, not after them."""
    needed = {"transformers": "transformers", "PIL": "Pillow", "matplotlib": "matplotlib"}
    missing = [name for module, name in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ImportError(f"it needs {', '.join(missing)}: pip install 'aircache_ext[demo]'")


def _say(text: str) -> None:
    print(text, flush=True)
