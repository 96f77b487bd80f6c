"""The paper's latency table: prefill and decoding of a 7B model, over full and compressed caches.

    make latency
    python bench/latency.py --shape 8x8k --keep 0.1 --json bench/results/latency.json
    python bench/latency.py --largest-batch 8k --json bench/results/latency.json
    python bench/latency.py --toy

A piece is one form of cache, one share kept, one shape. Each has a process of its own on a GPU,
minutes at most, and its row is in the file as soon as it is measured: run again, only what is
missing is measured. A piece without enough memory has that as its result. See README.md for what
the columns mean.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

import environment
import latency_piece
import latency_table
from latency_piece import FORMS, MEASURED, OURS, Geometry, Piece, Setup

LIMIT = 480  # seconds of a piece
QWEN2_7B = Geometry(28, 28, 4, 3584, 18944, 152064)
TOY = Geometry(2, 4, 2, 64, 128, 256)
SHAPES = [f"8x{n}k" for n in (2, 4, 8, 16, 32)] + [f"16x{n}k" for n in (2, 4, 8, 16)]
TOY_SHAPES = ["2x64"]
KEEPS = [1.0, 0.5, 0.1]


def full_setup(device: str) -> Setup:
    """The text is that of cases.csv."""
    return Setup(
        QWEN2_7B, "bf16", device, text_before=32, instruction=32, new_tokens=512, repeats=3
    )


def toy_setup(device: str) -> Setup:
    return Setup(TOY, "fp32", device, text_before=8, instruction=8, new_tokens=6, repeats=2)


class Table:
    """Rows by piece, and the file that holds them.

    Args:
        record: of this run.
        path: whose rows are taken up; None: no file.

    Raises:
        SystemExit: the file is of another setup or machine, or of other versions.
    """

    def __init__(self, setup: Setup, record: dict[str, object], path: Path | None) -> None:
        self.setup, self.record, self.path = setup, record, path
        self.rows: dict[Piece, dict[str, object]] = {}
        self.failed = 0
        if path is None or not path.exists():
            return
        held, ours = json.loads(path.read_text()), json.loads(json.dumps(record))
        hardware = "cpu" if setup.device == "cpu" else "gpu"
        for name in ("setup", hardware, "torch", "transformers", "aircache_ext"):
            if ours[name] != held.get(name):
                raise SystemExit(
                    f"{path} was measured with {name} {held.get(name)}, but this run has "
                    f"{ours[name]}. Move it away, or choose another file"
                )
        names = [field.name for field in dataclasses.fields(Piece)]
        for row in held["results"] + held["tries"]:
            self.rows[Piece(**{name: row[name] for name in names})] = row

    def row(self, piece: Piece) -> dict[str, object] | None:
        """Measured now if it was not before. None: it failed, and will be tried in another run."""
        if piece not in self.rows:
            start = time.perf_counter()
            try:
                result = measure(self.setup, piece)
            except Exception as error:
                print(f"{_name(piece)}: FAILED, {error}", flush=True)
                self.failed += 1
                return None
            took = time.perf_counter() - start
            stamp = {name: self.record[name] for name in ("commit", "date")}
            self.rows[piece] = asdict(piece) | result | stamp | {"piece_s": took}
            self.save()
            print(f"{_name(piece)}: {_said(result)}; {took:.0f} s", flush=True)
        return self.rows[piece]

    def search(self, form: str, keep: float, visual: int, most: int) -> None:
        """The largest batch that fits. Every try is a piece."""

        def fits(batch: int) -> bool:
            row = self.row(Piece(form, keep, batch, visual, only_fits=True))
            return row is not None and row["result"] == MEASURED

        largest(fits, most)

    @property
    def timed(self) -> list[dict[str, object]]:
        rows = [row for piece, row in self.rows.items() if not piece.only_fits]
        return latency_table.with_savings(self.setup, rows)

    @property
    def tries(self) -> list[dict[str, object]]:
        return [row for piece, row in self.rows.items() if piece.only_fits]

    def save(self) -> None:
        """All of it or, interrupted, what was there before."""
        if self.path is None:
            return
        report = self.record | {
            "results": self.timed,
            "tries": self.tries,
            "largest_batches": latency_table.largest_batches(self.tries),
        }
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(report, indent=1) + "\n")
        part.replace(self.path)

    def text(self) -> str:
        tables = [latency_table.table(self.timed)] if self.timed else []
        tables += [latency_table.table_of_batches(self.tries)] if self.tries else []
        return "\n\n".join(tables)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest batch up to ``most`` that fits: doubles, then bisects. 0 if not even one does."""
    fitting, failing = 0, most + 1
    while fitting + 1 < failing:
        doubling = failing > most
        batch = min(2 * fitting or 1, most) if doubling else (fitting + failing) // 2
        fitting, failing = (batch, failing) if fits(batch) else (fitting, batch)
    return fitting


def measure(setup: Setup, piece: Piece) -> dict[str, object]:
    """In a process of its own if memory is what may run out: nothing is left of it then."""
    return (latency_piece.measure if setup.device == "cpu" else in_own_process)(setup, piece)


def in_own_process(setup: Setup, piece: Piece) -> dict[str, object]:
    asked = json.dumps({"setup": asdict(setup), "piece": asdict(piece)})
    command = [sys.executable, latency_piece.__file__, asked]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"result": f"more than {LIMIT} s"}
    if done.returncode != 0:
        raise RuntimeError(f"exit status {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def pieces(shapes: list[tuple[int, int]], forms: list[str], keeps: list[float]) -> list[Piece]:
    """A cache of transformers is always full."""
    return [
        Piece(form, keep, batch, visual)
        for batch, visual in shapes
        for form in forms
        for keep in (keeps if form in OURS else [1.0])
    ]


def shape(text: str) -> tuple[int, int]:
    batch, visual = text.split("x")
    return int(batch), tokens(visual)


def tokens(text: str) -> int:
    return int(text.removesuffix("k")) * (1024 if text.endswith("k") else 1)


def _name(piece: Piece) -> str:
    what = "does it fit, " if piece.only_fits else ""
    return f"{what}{piece.batch} x {piece.visual}, {piece.form}, {100 * piece.keep:g} %"


def _said(result: dict[str, object]) -> str:
    if result["result"] != MEASURED:
        return str(result["result"])
    return f"prefill {result['prefill']['median_s']:.3f} s, decode {result['decode_s']:.2f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", action="append", type=shape, help="8x2k; default: the paper's")
    parser.add_argument("--form", action="append", choices=FORMS, help="default: all")
    parser.add_argument("--keep", action="append", type=float, help="default: 1, 0.5, 0.1")
    parser.add_argument(
        "--largest-batch",
        action="append",
        type=tokens,
        metavar="VISUAL",
        help="instead of times: the largest batch that fits with so many visual tokens",
    )
    parser.add_argument("--most", type=int, default=256, help="batch beyond which none is tried")
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--toy", action="store_true", help="only see that it runs, on a tiny model")
    parser.add_argument("--json", type=Path, help="taken up again; .md and .png come beside it")
    args = parser.parse_args()
    device = args.device or ("cpu" if args.toy else "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} can use no GPU here; --toy needs none")

    setup = (toy_setup if args.toy else full_setup)(device)
    record = {
        "benchmark": "latency",
        **environment.record(torch.device(device)),
        "transformers": version("transformers"),
        "setup": asdict(setup),
    }
    table = Table(setup, record, args.json)
    forms, keeps = args.form or list(FORMS), args.keep or KEEPS
    if args.largest_batch:
        for piece in pieces([(1, visual) for visual in args.largest_batch], forms, keeps):
            table.search(piece.form, piece.keep, piece.visual, args.most)
    else:
        shapes = args.shape or [shape(text) for text in (TOY_SHAPES if args.toy else SHAPES)]
        chosen = pieces(shapes, forms, keeps)
        missing = [piece for piece in chosen if piece not in table.rows]
        print(f"{len(chosen)} pieces, {len(chosen) - len(missing)} of them measured before")
        for piece in missing:
            table.row(piece)

    print("\n" + table.text())
    if args.json:
        table.save()
        args.json.with_suffix(".md").write_text(table.text() + "\n")
        if any(row["result"] == MEASURED for row in table.timed):
            latency_table.plot(table.timed, args.json.with_suffix(".png"))
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
