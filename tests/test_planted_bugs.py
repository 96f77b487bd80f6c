"""The executor of tests/simt sees the usual mistakes: each is planted in a copy of a kernel."""

import shutil
import subprocess
from pathlib import Path

import pytest

from backends import SIMT_ORDERS

ROOT = Path(__file__).parents[1]
INCLUDES = [ROOT / folder for folder in ("tests/simt", "include", "csrc", "csrc/cuda")]
COMMON_SOURCES = [
    *(f"tests/simt/{name}.cpp" for name in ("executor", "fiber", "planted_bug")),
    *(
        f"csrc/cpu/{name}.cpp"
        for name in ("attention_part", "attention_sums", "isa", "select", "window_scores")
    ),
    "csrc/cuda/launch_log.cpp",
]
OPS = ["select", "window_scores"]

# Name: the op, what of its .cuh goes, the text that follows there, and what comes instead.
BARRIER = "__syncthreads();\n"
BUGS = {
    "filled before all is cleared": ("select", BARRIER, "  constexpr int kTile", ""),
    "read before all is counted": ("select", BARRIER, "  // Thread 0 has the highest digits", ""),
    "read before its owner writes it": ("select", BARRIER, "  return shared.bucket;", ""),
    "barrier that some threads don't reach": (
        "select",
        BARRIER,
        "  return shared.bucket;",
        "if (threadIdx.x < row.seq) __syncthreads();\n",
    ),
    "own copies not waited for": ("window_scores", "cp_async_wait<0>();\n", "", ""),
    "others' copies not waited for": ("window_scores", BARRIER, "  }\n\n  /// This warp's", ""),
    "combined before all parts are there": ("window_scores", BARRIER, "    // The next rows", ""),
    "overwritten while it is read": ("window_scores", BARRIER, "    }\n  }\n#pragma", ""),
    "added before the other half is there": ("window_scores", BARRIER, "  if (odd == 0)", ""),
}
QUICK = {"read before all is counted", "own copies not waited for"}

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def compiled(source: str, folder: Path) -> Path:
    """An object whose source finds the headers of ``folder`` before the repository's."""
    to = folder / (source.replace("/", "-") + ".o")
    flags = ["-std=c++20", "-O1", "-Wno-unknown-pragmas", "-DAIRCACHE_ISA=plain"]
    flags += [f"-I{include}" for include in [folder, *INCLUDES]]
    subprocess.run(["g++", *flags, "-x", "c++", "-c", ROOT / source, "-o", to], check=True)
    return to


def compiled_copy(op: str, folder: Path, old: str = "", new: str = "") -> Path:
    """The op with a copy of its kernels, in which ``new`` stands for ``old``."""
    header = f"{op}/{op}.cuh"
    text = (ROOT / "csrc/cuda" / header).read_text()
    if old:
        assert text.count(old) == 1, "the kernel has changed: plant the bug elsewhere"
    (folder / op).mkdir()
    (folder / header).write_text(text.replace(old, new) if old else text)
    return compiled(f"csrc/cuda/{op}/{op}.cu", folder)


def outputs(op: str, orders, objects: list[Path], folder: Path):
    """What the op prints in each order of threads, one order after the other."""
    program = folder / "planted_bug"
    subprocess.run(["g++", *objects, "-o", program], check=True)
    for order in orders:
        command = [program, op, order]
        try:
            # Sound kernels take milliseconds; a search whose counts are wrong may go on for ever.
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=5)
            yield done.stdout
        except subprocess.TimeoutExpired:
            yield "did not end"


@pytest.fixture(scope="module")
def common(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("common")
    return [compiled(source, folder) for source in COMMON_SOURCES]


@pytest.fixture(scope="module")
def sound(common, tmp_path_factory) -> tuple[dict[str, Path], dict[str, str]]:
    """The ops with unchanged copies of their kernels, and their output: in every order of threads
    the same, and the CPU kernels'."""
    folder = tmp_path_factory.mktemp("sound")
    objects = {op: compiled_copy(op, folder) for op in OPS}
    printed = {}
    for op in OPS:
        cpu, *simt = outputs(op, ["cpu", *SIMT_ORDERS], [*common, *objects.values()], folder)
        assert len(set(simt)) == 1, op
        expected = [float(number) for number in cpu.split()]
        # So near, integers are equal.
        assert [float(number) for number in simt[0].split()] == pytest.approx(expected, rel=1e-5)
        printed[op] = simt[0]
    return objects, printed


@pytest.mark.parametrize(
    "bug", [bug if bug in QUICK else pytest.param(bug, marks=pytest.mark.full) for bug in BUGS]
)
def test_a_planted_bug_is_seen(bug, common, sound, tmp_path):
    op, gone, next_text, instead = BUGS[bug]
    objects, printed = sound
    mutated = compiled_copy(op, tmp_path, gone + next_text, instead + next_text)
    found = outputs(op, SIMT_ORDERS, [*common, *{**objects, op: mutated}.values()], tmp_path)
    assert any(output != printed[op] for output in found)
