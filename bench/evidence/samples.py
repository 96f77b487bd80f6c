"""A sheet of examples: pictures with their questions and answers, to look at.

python bench/evidence/samples.py --out samples.png
"""

import argparse
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import dataset  # noqa: E402

COLUMNS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "test"), default="test")
    options = parser.parse_args()

    families = [family for family in dataset.FAMILIES if family != "pairs"]
    figure, axes = plt.subplots(len(families), COLUMNS, figsize=(13, 14), layout="constrained")
    for family, row in zip(families, axes, strict=True):
        for index, axis in enumerate(row):
            example = dataset.example(family, options.split, index)
            axis.imshow(example.images[0], interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(textwrap.fill(example.instruction, 48), fontsize=8, loc="left")
            answer = textwrap.fill(example.answer, 44)
            axis.set_xlabel(answer, fontsize=9, fontfamily="monospace", loc="left")
    figure.savefig(options.out, dpi=90)


if __name__ == "__main__":
    main()
