"""Test questions as a JSONL file with pictures, for ``python -m aircache_ext evaluate``.

python bench/evidence/export.py --family charts --questions 100 --out FOLDER
"""

import argparse
import json
from pathlib import Path

import dataset


def export(family: str, questions: int, folder: Path, grid: int, clauses: int) -> Path:
    """Writes the first test questions of a family; returns the JSONL file."""
    pictures = folder / family
    pictures.mkdir(parents=True, exist_ok=True)
    path = folder / f"{family}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for index in range(questions):
            example = dataset.example(family, "test", index, grid, clauses)
            names = [f"{family}/{index}-{place}.png" for place in range(len(example.images))]
            for name, image in zip(names, example.images, strict=True):
                image.save(folder / name)
            row = {
                "id": f"{family} {index}",
                "family": family,
                "image": names,
                "question": example.instruction,
                "answer": example.answer,
            }
            file.write(json.dumps(row) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", action="append", choices=dataset.FAMILIES)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--grid", type=int, default=dataset.GRID, help="patches a side")
    parser.add_argument("--clauses", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for family in options.family or dataset.FAMILIES:
        print(export(family, options.questions, options.out, options.grid, options.clauses))


if __name__ == "__main__":
    main()
