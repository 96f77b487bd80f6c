"""The command line.

    python -m aircache_ext info
    python -m aircache_ext run --model PATH --image FILE --prompt TEXT [--compare]

``info`` says what was built and what is here to run it on. ``run`` answers a question about a
picture with a local checkpoint over a compressed cache, and shows what every layer kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from aircache_ext import methods
from aircache_ext.cli import info

METHODS = [
    name
    for name in methods.__all__
    if issubclass(getattr(methods, name), methods.Method) and name != "Method"
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status; what the user got wrong is told in one line."""
    options = parse(arguments)
    if options.command == "info":
        print(info.text())
        return 0
    try:
        from aircache_ext.cli import run

        run.main(options)
    except (ImportError, OSError, ValueError, TypeError) as error:
        print(f"aircache_ext run: {error}")
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m aircache_ext", description="KV-cache compression for vision-language models"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="what was built, and what is here to run it on")

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
    run.add_argument("--method", default="AirCache", choices=METHODS, help="what decides")
    run.add_argument("--alpha", type=float, default=0.9, help="elite threshold; 0: all text rows")
    run.add_argument("--heads", default="shared", choices=["shared", "per_kv_head"])
    run.add_argument("--compare", action="store_true", help="answer over the full cache too")
    run.add_argument("--max-new-tokens", type=int, default=128)
    run.add_argument("--device", default="auto", help="cpu, cuda, ...; auto: a GPU if there is one")
    run.add_argument(
        "--dtype", default="auto", help="float32, bfloat16, ...; auto: the checkpoint's"
    )
    run.add_argument(
        "--output", type=Path, default=Path("aircache"), help="PNG and HTML page, without ending"
    )
    return parser.parse_args(arguments)
