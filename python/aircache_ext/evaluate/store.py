"""Answers on disk, written as they come: what was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aircache_ext.evaluate.data import Question
from aircache_ext.evaluate.lines import whole_lines
from aircache_ext.evaluate.variants import Variant


class Store:
    """A JSONL file: its first line says how the answers come about, each further one is an answer.

    Args:
        path: of the file, which is made if it is not there.
        settings: all that the answers hang on but the questions and the variants.

    Raises:
        ValueError: the file's answers come about in another way, or it is no such file.
    """

    def __init__(self, path: Path, settings: Mapping[str, object]) -> None:
        self._path = path
        self._answers: dict[tuple[str, Variant], tuple[str, str]] = {}  # question's text, answer
        rows = list(_rows(path))
        if not rows:
            path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
            return
        theirs = rows[0].get("settings")
        if theirs != settings:
            raise ValueError(
                f"{path} has answers of {json.dumps(theirs)} but these are of "
                f"{json.dumps(settings)}: choose another folder"
            )
        for row in rows[1:]:
            variant = Variant(row["method"], row["retention"])
            self._answers[row["id"], variant] = row["question"], row["answer"]

    def get(self, question: Question, variant: Variant) -> str | None:
        """The answer, if it is there.

        Raises:
            ValueError: the question was another one then.
        """
        text, answer = self._answers.get((question.id, variant), (question.text, None))
        if text != question.text:
            raise ValueError(
                f"{self._path} has an answer to {text!r} as id {question.id!r}, which is now "
                f"{question.text!r}: choose another folder"
            )
        return answer

    def add(self, questions: Sequence[Question], variant: Variant, answers: Sequence[str]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            for question, answer in zip(questions, answers, strict=True):
                self._answers[question.id, variant] = question.text, answer
                row = {
                    "id": question.id,
                    "method": variant.method,
                    "retention": variant.retention,
                    "question": question.text,
                    "answer": answer,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
