"""Every method over the same questions: what a compressed cache still answers.

    python bench/evidence/compare.py --model FOLDER --out FOLDER [--json FILE]

Questions are read once, a batch at a time, and answered by every variant. The answers lie in --out,
question by question; interrupted, it goes on where it stopped. Two runs with other --families may
share the folder, to use two cores. With --json the numbers are written, tables and plots beside.

Of a family that the model does not know over its full cache, only the controls are asked: what it
loses would say nothing.
"""

import argparse
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

import dataset
import results
from dataset import Example
from exam import Exam
from foresight import MAX_WINDOW
from layer_profile import profile
from lineup import CONTROLS, Variant, variants
from store import Store

BATCH = 32  # questions that are read at once: on a CPU they stay in its caches
SORTED = 16 * BATCH  # questions among which those with answers of like length are read together
KNOWN = 0.97  # of the answers exact over the full cache: then a family is compared


@dataclass
class Progress:
    """Says how far it is, in answers, and when it will be done at this pace."""

    answers: int  # that are to be given
    given: int = 0
    began: float = field(default_factory=time.time)

    def say(self, family: str, answers: int, exact: dict[str, float]) -> None:
        self.given += answers
        elapsed = time.time() - self.began
        left = elapsed / self.given * (self.answers - self.given)
        shown = "  ".join(f"{key} {share:.0%}" for key, share in exact.items())
        print(
            f"{self.given / self.answers:6.1%}  {family}, exact in this batch: {shown};  "
            f"elapsed {elapsed / 60:.1f} min, left {left / 60:.1f} min",
            flush=True,
        )


@dataclass
class Comparison:
    model: LlavaForConditionalGeneration
    process: LlavaProcessor
    clauses: int

    @property
    def grid(self) -> int:
        return int(self.model.config.image_seq_length**0.5)

    def example(self, family: str, question: int) -> Example:
        return dataset.example(family, "test", question, self.grid, self.clauses)

    def setup(self) -> dict[str, object]:
        """What answers follow from: the weights, and what a few of the questions look like."""
        weights, asked = hashlib.sha256(), hashlib.sha256()
        for name, weight in sorted(self.model.state_dict().items()):
            weights.update(name.encode() + weight.cpu().float().numpy().tobytes())
        for family in dataset.FAMILIES:
            for question in range(4):
                example = self.example(family, question)
                asked.update(f"{example.instruction}\n{example.answer}".encode())
                for image in example.images:
                    asked.update(image.tobytes())
        return {
            "weights": weights.hexdigest()[:16],
            "questions": asked.hexdigest()[:16],
            "grid": self.grid,
            "clauses": self.clauses,
        }

    def batches(self, store: Store, wanted: set[int]) -> Iterator[tuple[list[int], list[Example]]]:
        """Of the ``wanted`` questions, those with answers of like length together."""
        for first in range(0, store.questions, SORTED):
            numbers = sorted(wanted & set(range(first, first + SORTED)))
            examples = [(i, self.example(store.family, i)) for i in numbers]
            examples.sort(key=lambda x: (len(x[1].answer), len(x[1].instruction)))
            for start in range(0, len(examples), BATCH):
                yield tuple(map(list, zip(*examples[start : start + BATCH], strict=True)))

    @torch.inference_mode()
    def run(self, store: Store, chosen: Sequence[Variant], progress: Progress) -> None:
        """Asks what is missing in the ``store``."""
        missing = {variant: store.missing(variant) for variant in chosen}
        for questions, examples in self.batches(store, set().union(*missing.values())):
            verdicts = {}
            with Exam(self.model, self.process, examples) as exam:
                seen = {name: rows.tolist() for name, rows in profile(exam).items()}
                for variant in chosen:
                    if missing[variant].isdisjoint(questions):
                        continue
                    verdicts[variant.key] = exam.judge(
                        method=variant.method,
                        retention=variant.retention or 1.0,
                        max_window=MAX_WINDOW,
                    )
            store.add(questions, [example.kind for example in examples], verdicts, seen)
            shown = ("full cache 1", "AirCache 0.1", "no visual 0")
            progress.say(
                store.family,
                sum(len(missing[variant].intersection(questions)) for variant in chosen),
                {k: verdicts[k].exact.float().mean().item() for k in shown if k in verdicts},
            )

    def compare(
        self, store: Store, chosen: Sequence[Variant], at_least: float, progress: Progress
    ) -> Sequence[Variant]:
        """Runs ``chosen``, or the controls alone where fewer answers than ``at_least`` are exact
        over the full cache; gives back which."""
        self.run(store, CONTROLS, progress)
        full = fmean(store.record(CONTROLS[0]).scores)
        if full < at_least:
            progress.answers -= sum(len(store.missing(variant)) for variant in chosen)
            print(f"{store.family}: {full:.1%} exact over the full cache, too little to compare")
            return CONTROLS
        self.run(store, chosen, progress)
        return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the answers")
    parser.add_argument(
        "--families", nargs="+", choices=dataset.FAMILIES, default=[*dataset.FAMILIES]
    )
    parser.add_argument("--questions", type=int, default=3000, help="per family")
    parser.add_argument("--variants", choices=("main", "ablations", "all"), default="all")
    parser.add_argument("--at-least", type=float, default=KNOWN, help="exact over the full cache")
    parser.add_argument("--clauses", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="of all answers; .txt and .png come beside it")
    options = parser.parse_args()
    if not (options.model / "config.json").exists():
        parser.error(f"no model is in {options.model}: make evidence-model trains one, for hours")
    torch.set_num_threads(options.threads)

    model = LlavaForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
    process = AutoProcessor.from_pretrained(options.model)
    comparison = Comparison(model.to(options.device), process, options.clauses)
    setup, chosen = comparison.setup(), variants(options.variants)
    stores = [Store(options.out, name, options.questions, setup) for name in options.families]
    progress = Progress(sum(len(store.missing(x)) for store in stores for x in chosen))
    asked = [
        (store, variant)
        for store in stores
        for variant in comparison.compare(store, chosen, options.at_least, progress)
    ]
    if options.json:
        results.write(results.collect(asked), setup, options.json)


if __name__ == "__main__":
    main()
