"""Trains the model of the evidence; interrupted, it goes on where it stopped.

    python bench/evidence/train.py --out FOLDER
    torchrun --nproc-per-node 2 bench/evidence/train.py --out FOLDER    # half a step each

Everything that is random follows from the plan's seed and the number of the step: a run that was
interrupted gives the same weights as one that was not. FOLDER gets ``state.pt`` (all that is needed
to go on), ``log.jsonl`` (every step's loss, every evaluation) and, after each stage and at the
end, the model as ``from_pretrained`` wants it.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, Dataset
from transformers import LlavaForConditionalGeneration

import batches
import dataset
import evaluate
import model as small
import processor
from muon import Muon
from plan import PLAN, SEED, Stage

WARMUP = 50  # steps
SMALLEST = 0.05  # of the peak learning rate, at a stage's end


def rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    if step < WARMUP:
        return stage.peak * (step + 1) / WARMUP
    done = (step - WARMUP) / max(1, stage.steps - WARMUP)
    return stage.peak * (SMALLEST + (1 - SMALLEST) * (1 + math.cos(math.pi * done)) / 2)


@dataclass
class Steps(Dataset):
    """The examples of a stage's steps from ``first`` on, drawn from the step's number alone.

    A step comes in parts of like length: they need less padding, and on a CPU a small part stays in
    the caches. The gradient is that of the whole step.
    """

    stage: Stage
    first: int = 0
    part: int = 16  # questions
    rank: int = 0  # of the processes that share a step's parts
    processes: int = 1

    def __post_init__(self) -> None:
        self.grids = self.stage.grids or (self.stage.grid,)
        self.process = {grid: processor.processor(grid) for grid in self.grids}
        self.pictures = max(1, self.part // self.stage.questions)  # of a part
        self.starts = range(0, self.stage.pictures, self.pictures)
        if self.processes > len(self.starts):
            raise ValueError(
                f"processes is {self.processes} but must be at most {len(self.starts)}, the number "
                f"of parts of a step of {self.stage.name}"
            )

    def __len__(self) -> int:
        return self.stage.steps - self.first

    def __getitem__(self, number: int) -> list[batches.Batch]:
        stage, step = self.stage, self.first + number
        rng = Random(f"{SEED} {stage.name} {step}")
        families = rng.choices([*stage.mix], weights=[*stage.mix.values()], k=stage.pictures)
        clauses, grid = rng.randint(0, stage.clauses), rng.choice(self.grids)
        first = step * stage.pictures
        groups = [
            dataset.examples(family, "train", first + row, stage.questions, grid, clauses)
            for row, family in enumerate(families)
        ]
        groups.sort(key=_length)
        return [
            batches.make(groups[start : start + self.pictures], self.process[grid])
            for start in self.starts[self.rank :: self.processes]
        ]


def _length(group: list[dataset.Example]) -> tuple[int, int]:
    """Of a row, about."""
    return len(group[0].images), sum(len(e.instruction) + len(e.answer) for e in group)


@dataclass
class Training:
    """A model on its way through a plan."""

    plan: list[Stage]
    device: str = "cpu"
    stage: int = 0
    step: int = 0  # within the stage
    seconds: float = 0.0  # of processor time, all processes and runs together
    rank: int = 0
    processes: int = 1
    model: LlavaForConditionalGeneration = field(init=False)

    def __post_init__(self) -> None:
        if dist.is_initialized():
            self.rank, self.processes = dist.get_rank(), dist.get_world_size()
        self.enter(small.build(self.plan[0].grid, SEED))

    def enter(self, model: LlavaForConditionalGeneration) -> None:
        """Begins the current stage with ``model``."""
        stage = self.plan[self.stage]
        if model.config.vision_config.image_size != stage.grid * processor.paper.PATCH:
            model = small.grow(model, stage.grid)
        self.model = model.to(self.device).train()
        self.process = processor.processor(stage.grid)
        matrices, others = small.matrices(self.model)
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices),
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
        ]

    def advance(self, parts: Sequence[batches.Batch]) -> tuple[float, float]:
        """One step: its loss and the share of answer tokens that were right.

        Other processes' parts count too.
        """
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate(self.plan[self.stage], self.step)
        sums = torch.zeros(3, dtype=torch.float64)  # answer tokens: all, right; loss
        for part in parts:
            logits, targets = batches.answer_logits(self.model, part.to(self.device))
            loss = F.cross_entropy(logits, targets, reduction="sum")
            loss.backward()
            right = (logits.argmax(-1) == targets).sum()
            sums += torch.tensor([len(targets), right.item(), loss.item()])
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        gradient = parameters_to_vector(gradients)
        if dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(gradient)
        tokens, right, loss = sums.tolist()
        vector_to_parameters(gradient / tokens, gradients)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss / tokens, right / tokens

    def save(self, path: Path) -> None:
        state = {
            "stage": self.plan[self.stage].name,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)  # never half a file

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        self.stage = [stage.name for stage in self.plan].index(state["stage"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.enter(small.build(self.plan[self.stage].grid, SEED))
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def next_stage(self) -> bool:
        """Goes on to the next stage; False after the last."""
        if self.stage + 1 == len(self.plan):
            return False
        self.stage, self.step = self.stage + 1, 0
        self.enter(self.model)
        return True

    def export(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.process.save_pretrained(folder)


def run(training: Training, out: Path, log: Callable, options: argparse.Namespace) -> None:
    """The rest of the current stage; the first process alone writes, prints and evaluates."""
    stage, start, first = training.plan[training.stage], time.time(), training.step
    steps = Steps(stage, training.step, options.part, training.rank, training.processes)
    cpu = time.process_time()
    for parts in DataLoader(steps, batch_size=None, num_workers=options.workers, collate_fn=list):
        loss, right = training.advance(parts)
        training.seconds += (time.process_time() - cpu) * training.processes
        step = training.step
        if training.rank > 0:
            continue
        log(stage=stage.name, step=step, loss=round(loss, 5), tokens=round(right, 4))
        if step % 20 == 0 or step == stage.steps:
            elapsed = time.time() - start
            left = elapsed / (step - first) * (stage.steps - step)
            print(
                f"{stage.name} {step:5}/{stage.steps}  loss {loss:.4f}  tokens {right:6.1%}  "
                f"elapsed {elapsed / 60:.1f} min, stage ends in {left / 60:.1f} min; "
                f"processor {training.seconds / 60:.1f} min",
                flush=True,
            )
        if step % options.save_every == 0 or step == stage.steps:
            training.save(out / "state.pt")
        if step % options.evaluate_every == 0 or step == stage.steps:
            training.model.eval()
            for family in stage.mix:
                rows = evaluate.accuracy(
                    training.model, training.process, family, options.questions, stage.grid,
                    stage.clauses,
                )  # fmt: skip
                log(stage=stage.name, step=step, family=family, accuracy=rows)
                kinds = "  ".join(f"{kind} {row['exact']:.0%}" for kind, row in rows.items())
                print(
                    f"  held out, {family}: {rows['all']['tokens']:.1%} of tokens; exact: {kinds}",
                    flush=True,
                )
            training.model.train()
        cpu = time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="the state.pt to begin with, if out has none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw pictures")
    parser.add_argument("--part", type=int, default=16, help="questions forwarded at once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--evaluate-every", type=int, default=100)
    parser.add_argument("--questions", type=int, default=150, help="per family and evaluation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
    options.out.mkdir(parents=True, exist_ok=True)

    training = Training(PLAN, options.device)
    state = options.out / "state.pt"
    if state.exists() or options.start:
        training.load(state if state.exists() else options.start)
    if training.rank == 0:
        print(
            f"{batches.parameters(training.model):,} weights; "
            f"from step {training.step} of {training.plan[training.stage].name}",
            flush=True,
        )
    with (options.out / "log.jsonl").open("a") as file:

        def log(**row: object) -> None:
            print(json.dumps(row), file=file, flush=True)

        if training.rank == 0:
            log(plan=[asdict(stage) for stage in PLAN], seed=SEED)
        while True:
            run(training, options.out, log, options)
            if training.rank == 0:
                training.export(options.out / training.plan[training.stage].name)
            if not training.next_stage():
                break


if __name__ == "__main__":
    main()
