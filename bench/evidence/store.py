"""What every variant answered, question by question, on disk as it comes.

A folder with a file per family: its first line says what was asked of what, each further one is a
batch. What was interrupted goes on where it stopped, and families can be run side by side.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from aircache_ext.evaluate import Record
from aircache_ext.evaluate.lines import whole_lines
from exam import Verdict
from lineup import Variant

EXACT, TOKENS, KEPT = range(3)
PROFILE = ("elite", "strength", "skewness", "share")


class Store:
    """Of one family's first ``questions`` test questions.

    Args:
        setup: all that the answers follow from; those of another one are refused.

    Raises:
        ValueError: the file is of another setup.
    """

    def __init__(self, folder: Path, family: str, questions: int, setup: dict[str, object]) -> None:
        self.family, self.questions = family, questions
        self.path = folder / f"{family}.jsonl"
        self._answers: dict[str, np.ndarray] = {}  # by variant: [questions, 3], NaN: not yet
        self._profile: dict[int, dict[str, list[float]]] = {}  # by question
        self._kinds: dict[int, str] = {}  # by question
        lines = whole_lines(self.path)
        if not lines:
            folder.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(setup) + "\n")
        elif json.loads(lines[0]) != json.loads(json.dumps(setup)):
            raise ValueError(
                f"{self.path} holds answers of another model, or to other questions: {lines[0]} "
                f"instead of {json.dumps(setup)}. Move it away, or choose another folder"
            )
        for line in lines[1:]:
            self._take(json.loads(line))

    def _take(self, batch: dict) -> None:
        known = [(row, i) for row, i in enumerate(batch["questions"]) if i < self.questions]
        rows, questions = [row for row, _ in known], [i for _, i in known]
        for key, columns in batch["answers"].items():
            empty = np.full((self.questions, 3), np.nan)
            answers = self._answers.setdefault(key, empty)
            answers[questions] = np.array(columns).T[rows]
        for row, question in known:
            self._kinds[question] = batch["kinds"][row]
            self._profile[question] = {name: batch["profile"][name][row] for name in PROFILE}

    def add(
        self,
        questions: Sequence[int],
        kinds: Sequence[str],
        verdicts: dict[str, Verdict],
        profile: dict[str, list[list[float]]],
    ) -> None:
        """A batch of ``questions`` of some ``kinds``: for each variant's key its verdict, and the
        profile's rows by name."""
        batch = {
            "questions": list(questions),
            "kinds": list(kinds),
            "profile": {name: [_short(row) for row in profile[name]] for name in PROFILE},
            "answers": {
                key: [_short(x.exact.float()), _short(x.tokens), _short(x.kept)]
                for key, x in verdicts.items()
            },
        }
        with self.path.open("a") as file:
            file.write(json.dumps(batch, separators=(",", ":")) + "\n")
        self._take(batch)

    def missing(self, variant: Variant) -> set[int]:
        """The questions that it has not answered yet."""
        answers = self._answers.get(variant.key)
        if answers is None:
            return set(range(self.questions))
        return set(np.isnan(answers[:, EXACT]).nonzero()[0].tolist())

    def _column(self, variant: Variant, column: int) -> np.ndarray:
        if missing := self.missing(variant):
            raise ValueError(f"{variant.key} has not answered {len(missing)} {self.family}")
        return self._answers[variant.key][:, column]

    def record(self, variant: Variant) -> Record:
        return Record(
            family=self.family,
            method=variant.name,
            retention=variant.retention,
            scores=self._column(variant, EXACT).tolist(),
            tokens=self._column(variant, TOKENS).tolist(),
        )

    def kept(self, variant: Variant) -> float:
        """The share of the visual tokens that stayed, the mean over questions."""
        return float(self._column(variant, KEPT).mean())

    @property
    def kinds(self) -> list[str]:
        """Of every question."""
        return [self._kinds[question] for question in range(self.questions)]

    def profile(self) -> dict[str, list[float]]:
        """Per layer, the means over questions."""
        return {
            name: np.mean([rows[name] for rows in self._profile.values()], axis=0).tolist()
            for name in PROFILE
        }


def _short(numbers: Iterable[float]) -> list[float]:
    return [round(float(number), 5) for number in numbers]
