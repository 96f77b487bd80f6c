"""The command line.

    python -m aircache_ext info
    python -m aircache_ext run --model PATH --image FILE --prompt TEXT [--compare]
    python -m aircache_ext evaluate --model PATH --data FILE.jsonl [--method all] [--retention ...]

``info`` says what was built and what is here to run it on. ``run`` answers a question about a
picture with a local checkpoint over a compressed cache, and shows what every layer kept.
``evaluate`` asks a local checkpoint the questions of a file over the full and over compressed
caches: accuracies with 95 % intervals as table, JSON and plot. docs/evaluation.md has the file's
format.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from aircache_ext._checks import HEADS
from aircache_ext.cli import info
from aircache_ext.evaluate import variants
from aircache_ext.evaluate.metrics import METRICS

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status; what the user got wrong is told in one line."""
    options = parse(arguments)
    if options.command == "info":
        print(info.text())
        return 0
    try:
        if options.command == "run":
            from aircache_ext.cli import run

            run.main(options)
        else:
            from aircache_ext.evaluate import command

            command.main(options)
    except (ImportError, OSError, ValueError, TypeError) as error:
        print(f"aircache_ext {options.command}: {error}")
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m aircache_ext", description="KV-cache compression for vision-language models"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="what was built, and what is here to run it on")

    _add_run(commands)
    _add_evaluate(commands)
    options = parser.parse_args(arguments)
    typed = sys.argv[1:] if arguments is None else arguments
    options.as_typed = shlex.join(["python", "-m", "aircache_ext", *typed])
    return options


def _add_run(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="a checkpoint answers a question about a picture",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    run.add_argument("--model", required=True, help="folder of a vision-language checkpoint")
    run.add_argument("--image", required=True, type=Path, help="a picture")
    run.add_argument("--prompt", required=True, help="the question")
    run.add_argument("--retention", type=float, help="share of the visual tokens that stays, 0.1")
    run.add_argument("--budget", type=int, help="instead: visual tokens per layer, on average")
    run.add_argument(
        "--method",
        default="AirCache",
        type=variants.named,
        choices=variants.METHODS,
        help="what decides",
    )
    run.add_argument("--alpha", type=float, default=0.9, help="elite threshold; 0: all text rows")
    run.add_argument("--heads", default="shared", choices=HEADS)
    run.add_argument("--compare", action="store_true", help="answer over the full cache too")
    _add_model(run)
    run.add_argument(
        "--output", type=Path, default=Path("aircache"), help="PNG and HTML page, without ending"
    )


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="accuracy on a file of questions, over the full and over compressed caches",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate.add_argument("--model", required=True, help="folder of a vision-language checkpoint")
    evaluate.add_argument("--data", required=True, type=Path, help="questions, one a line (JSONL)")
    evaluate.add_argument(
        "--retention",
        type=float,
        nargs="+",
        default=[0.5, 0.1, 0.05, 0.01],
        help="shares of the visual tokens that stay; the full cache comes of itself",
    )
    evaluate.add_argument(
        "--method",
        type=variants.named,
        nargs="+",
        default=["AirCache"],
        choices=[*variants.METHODS, "all"],
        help="what decides; with several, all are compared with the first",
    )
    evaluate.add_argument(
        "--metric", default="exact", choices=METRICS, help="where a question names none"
    )
    evaluate.add_argument("--batch", type=int, default=1, help="questions asked at once")
    evaluate.add_argument("--limit", type=int, help="only so many questions, the first of the file")
    _add_model(evaluate)
    evaluate.add_argument(
        "--out",
        type=Path,
        default=Path("evaluation"),
        help="folder of the answers and results; answers that are there are not asked for again",
    )


def _add_model(command: argparse.ArgumentParser) -> None:
    """How a checkpoint is run."""
    command.add_argument("--max-new-tokens", type=int, default=128)
    command.add_argument(
        "--device", default="auto", help="cpu, cuda, ...; auto: a GPU if there is one"
    )
    command.add_argument(
        "--dtype", default="auto", help="float32, bfloat16, ...; auto: the checkpoint's"
    )
