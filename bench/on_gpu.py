"""Everything that only a GPU can answer, asked in one go: ``make gpu``.

    python bench/on_gpu.py --results bench/results

A GPU is often at hand for minutes only, so every step runs whatever became of those before it, its
output goes to a file, and a short table comes last: what passed, how fast it was. It needs a CUDA
build of torch, nvcc, cmake, ninja, pybind11, pytest, hypothesis and scipy, and builds the package
into ``build/gpu``; nothing is installed. Without kvpress the comparison with it is skipped. Under
eight minutes on an H200 with 16 cores is the aim.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "gpu"
PACKAGE = BUILD / "package"
LOGS = BUILD / "logs"

SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
# Small, and every op in every dtype: the sanitizers slow a kernel down a hundredfold.
SANITIZED_TESTS = [
    "tests/test_compress.py::test_the_steps_compose",
    "tests/test_compress.py::test_compress_is_the_case_of_one_layer",
    "tests/test_compress.py::test_rows_with_nothing_to_judge_by_keep_everything",
    "tests/test_compress_inplace.py::test_a_budget_per_row",
    "tests/test_decode_attention.py::test_lengths_change_between_calls_on_the_same_buffers",
]
CASES = ("image", "qwen2_7b_b1_8k", "qwen2_7b_b8_8k", "qwen2_7b_b8_32k")


@dataclass(frozen=True)
class Step:
    name: str
    command: list[object]
    environment: dict[str, str] = field(default_factory=dict)
    needs: str | None = None  # a package without which it is skipped


@dataclass(frozen=True)
class Outcome:
    name: str
    passed: bool
    seconds: float
    last_line: str
    skipped: bool = False

    @property
    def word(self) -> str:
        return "skipped" if self.skipped else "ok" if self.passed else "FAILED"


def run(step: Step) -> Outcome:
    if step.needs and not importlib.util.find_spec(step.needs):
        outcome = Outcome(step.name, True, 0.0, f"there is no {step.needs} here", skipped=True)
        print(f"{outcome.word} {step.name}: {outcome.last_line}", flush=True)
        return outcome
    log = LOGS / f"{step.name.replace(' ', '_')}.log"
    start = time.perf_counter()
    with log.open("w") as file:
        try:
            passed = 0 == subprocess.call(
                [str(part) for part in step.command],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(PACKAGE)} | step.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:  # a tool that is not there
            passed = False
            print(error, file=file)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    outcome = Outcome(
        step.name,
        passed,
        time.perf_counter() - start,
        lines[-1].strip(" =") if lines else "",
    )
    print(
        f"{outcome.word:6} {step.name}: {outcome.seconds:.0f} s; {outcome.last_line[:100]}",
        flush=True,
    )
    if not outcome.passed:
        print("\n".join(f"    {line}" for line in lines[-30:]), flush=True)
    return outcome


def build_steps() -> list[Step]:
    configure = ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja"]
    options = {
        "AIRCACHE_CUDA": "ON",
        "AIRCACHE_BUILD_BENCH": "ON",
        "CMAKE_CUDA_ARCHITECTURES": "native",
        "Python_EXECUTABLE": sys.executable,
    }
    target = PACKAGE / "aircache_ext"
    return [
        Step("configure", [*configure, *(f"-D{name}={value}" for name, value in options.items())]),
        Step("build", ["cmake", "--build", BUILD]),
        Step("package", ["cmake", "--install", BUILD, "--component", "python", "--prefix", target]),
    ]


def tests() -> list[Step]:
    """``not full``: the same tier as `make test`. Streams and graphs have the GPU to themselves."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not full"]
    workers = ["-n", "8"] if importlib.util.find_spec("xdist") else []
    elsewhere = ["--ignore=tests/test_cuda_code.py", "--ignore=tests/test_cuda.py"]
    return [
        Step("suite on cuda", [*pytest, *workers, *elsewhere, "-k", "cuda", "tests"]),
        Step("streams and graphs", [*pytest, "tests/test_cuda.py"]),
    ]


def sanitizers() -> list[Step]:
    """Of our kernels alone. Without torch's pool of memory each tensor has bounds of its own."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "cuda"]
    return [
        Step(
            name,
            [tool, "--tool", name, "--kernel-regex", "kns=aircache", "--error-exitcode", "1"]
            + [*pytest, *SANITIZED_TESTS],
            {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        )
        for name in SANITIZERS
    ]


def benchmarks(
    results: Path,
    seconds: float,
    device: str = "cuda",
    dtype: str = "bf16",
    cases: Sequence[str] = CASES,
) -> list[Step]:
    ops = [BUILD / "bench" / "cpp" / "aircache_bench_cuda", "--json", results / "ops_cuda.json"]
    what = ["--device", device, "--dtype", dtype, *(f"--case={case}" for case in cases)]

    def comparison(program: str) -> list[object]:
        output = results / f"{program}_cuda.json"
        command = [sys.executable, f"bench/{program}.py", *what]
        return [*command, "--seconds", seconds, "--json", output]

    return [
        Step("microbenchmarks", ops),
        Step("against torch", comparison("compare_torch")),
        Step("against kvpress", comparison("compare_kvpress"), needs="kvpress"),
    ]


def print_benchmarks(results: Path, outcomes: Sequence[Outcome]) -> None:
    """Of the steps that wrote their results just now: older ones may lie in the same files."""
    written = {outcome.name for outcome in outcomes if outcome.passed and not outcome.skipped}
    if "microbenchmarks" in written:
        print("\n| op | case | dtype | median us | GB/s | of the roof % |")
        print("|---|---|---|---:|---:|---:|")
        for row in json.loads((results / "ops_cuda.json").read_text())["results"]:
            print(
                f"| {row['op']} | {row['case']} | {row['dtype']} | {row['median_s'] * 1e6:.1f} "
                f"| {row['gb_s']:.0f} | {100 * row['gb_s'] / row['roof_gb_s']:.0f} |"
            )
    if "against torch" in written:
        print_comparison(results / "compare_torch_cuda.json", ratio="slower_than_ours")
    if "against kvpress" in written:
        print_comparison(results / "compare_kvpress_cuda.json", ratio="slower_than_aircache")


def print_comparison(path: Path, ratio: str) -> None:
    print("\n| case | variant | median ms | x ours | of the floor % | extra memory % |")
    print("|---|---|---:|---:|---:|---:|")
    for result in json.loads(path.read_text())["results"]:
        for name, row in result["variants"].items():
            memory, slower, floor = row["extra_memory"], row.get(ratio), row.get("share_of_floor")
            print(
                f"| {result['case']} | {name} | {row['median_s'] * 1e3:.3f} "
                f"| {'-' if slower is None else f'{slower:.1f}'} "
                f"| {'-' if floor is None else f'{100 * floor:.0f}'} "
                f"| {100 * memory['allocator_bytes'] / memory['cache_bytes']:.1f} |"
            )
        for name, reason in result["left_out"].items():
            print(f"| {result['case']} | {name} | {reason} | | | |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--seconds", type=float, default=5, help="for each case against torch")
    parser.add_argument(
        "--build-only", action="store_true", help=f"into {PACKAGE.relative_to(ROOT)}"
    )
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"There is no GPU here that torch {torch.__version__} can use.")
        return 1

    results = args.results.absolute()
    for folder in (LOGS, PACKAGE, results):
        folder.mkdir(parents=True, exist_ok=True)
    sources = ROOT / "python" / "aircache_ext"
    without_libraries = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(sources, PACKAGE / "aircache_ext", ignore=without_libraries, dirs_exist_ok=True)

    outcomes = []
    for step in build_steps():
        outcomes.append(run(step))
        if not outcomes[-1].passed:
            return 1
    if args.build_only:
        return 0
    outcomes += map(run, tests())
    with ThreadPoolExecutor() as pool:
        outcomes += pool.map(run, sanitizers())
    outcomes += map(run, benchmarks(results, args.seconds))

    print_benchmarks(results, outcomes)
    print("\n| step | | seconds | its last line |\n|---|---|---:|---|")
    for outcome in outcomes:
        seconds, last_line = f"{outcome.seconds:.0f}", outcome.last_line[:80]
        print(f"| {outcome.name} | {outcome.word} | {seconds} | {last_line} |")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
