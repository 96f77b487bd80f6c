"""Answers on disk, written as they come: what was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from aircache_ext.evaluate.data import Question
from aircache_ext.evaluate.lines import whole_lines
from aircache_ext.evaluate.variants import Variant


class Asked(NamedTuple):
    """What makes an answer one to a question. Of a picture that is what it holds, not where."""

    text: str
    pictures: tuple[str, ...]
    """The files' SHA-256."""


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
        self._answers: dict[tuple[str, Variant], tuple[Asked, str]] = {}
        self._digests: dict[Path, str] = {}  # a question is looked up once for each variant
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
            asked = Asked(row["question"], tuple(row.get("pictures", ())))
            self._answers[row["id"], variant] = asked, row["answer"]

    def get(self, question: Question, variant: Variant) -> str | None:
        """The answer, if it is there.

        Raises:
            ValueError: the question was another one then, or about other pictures.
        """
        if (question.id, variant) not in self._answers:
            return None
        asked, answer = self._answers[question.id, variant]
        now = self._asked(question)
        if asked.text != now.text:
            raise ValueError(
                f"{self._path} has an answer to {asked.text!r} as id {question.id!r}, which is now "
                f"{now.text!r}: choose another folder"
            )
        if asked.pictures != now.pictures:
            names = ", ".join(str(path) for path in question.images)
            raise ValueError(
                f"{self._path} has an answer to {now.text!r} as id {question.id!r} about other "
                f"pictures than {names}: choose another folder"
            )
        return answer

    def add(self, questions: Sequence[Question], variant: Variant, answers: Sequence[str]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            for question, answer in zip(questions, answers, strict=True):
                asked = self._asked(question)
                self._answers[question.id, variant] = asked, answer
                row = {
                    "id": question.id,
                    "method": variant.method,
                    "retention": variant.retention,
                    "question": asked.text,
                    "pictures": asked.pictures,
                    "answer": answer,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _asked(self, question: Question) -> Asked:
        for path in question.images:
            if path not in self._digests:
                self._digests[path] = sha256(path.read_bytes()).hexdigest()
        return Asked(question.text, tuple(self._digests[path] for path in question.images))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
