"""What nvcc makes of the kernels, without a GPU: registers, spills, traps, tensor cores.

``tests/ptxas.csv`` is the committed table; ``python tests/test_cuda_code.py`` writes it anew.
"""

import csv
import itertools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests" / "ptxas.csv"
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*/*.cu"))
ARCHITECTURES = ("sm_80", "sm_90")  # those of a build that names none
FLAGS = [
    "-std=c++20",
    "-O3",
    "--expt-relaxed-constexpr",
    *(f"-I{ROOT / folder}" for folder in ("include", "csrc", "csrc/cuda")),
]
# A few registers come and go with the compiler's version; more of a change is one to look at.
REGISTER_SLACK = 8

nvcc = shutil.which("nvcc")
pytestmark = pytest.mark.skipif(nvcc is None, reason="there is no nvcc")


def compiled(source: Path, architecture: str, folder: Path) -> tuple[Path, str]:
    """The source's machine code, with its PTX beside it, and what ptxas says of it."""
    cubin = folder / f"{source.stem}.{architecture}.cubin"
    flags = ["-fmad=false"] if source.stem == "layer_budgets" else []
    done = subprocess.run(
        [nvcc, *FLAGS, *flags, f"-arch={architecture}", "-Xptxas=-v", "-cubin", source]
        + ["-o", cubin, "--keep", "--keep-dir", folder],
        check=True,
        capture_output=True,
        text=True,
    )
    names = subprocess.run(
        ["c++filt"], input=done.stderr, check=True, capture_output=True, text=True
    )
    return cubin, names.stdout


def resources(report: str) -> dict[str, tuple[int, int]]:
    """Registers and bytes spilled of every kernel that ptxas reports on."""
    pattern = (
        r"Compiling entry function '(?P<name>[^']+)' for .*?"
        r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
        r"Used (?P<registers>\d+) registers"
    )
    found = {}
    for match in re.finditer(pattern, report, re.DOTALL):
        name = match["name"].split("(aircache")[0].removeprefix("void ")
        name = name.replace("aircache::cuda::", "").replace("(anonymous namespace)::", "")
        found[name] = (int(match["registers"]), int(match["stores"]) + int(match["loads"]))
    return found


def committed() -> dict[str, dict[str, int]]:
    """Registers by architecture and kernel."""
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    return {arch: {row["kernel"]: int(row[arch]) for row in rows} for arch in ARCHITECTURES}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def code(architecture, tmp_path_factory) -> dict[str, tuple[Path, dict[str, tuple[int, int]]]]:
    """Machine code and resources by source."""
    folder = tmp_path_factory.mktemp("cubin")
    result = {}
    for source in SOURCES:
        cubin, report = compiled(source, architecture, folder)
        result[source.stem] = (cubin, resources(report))
    return result


def test_registers_and_spills(code, architecture):
    measured = {}
    for _, kernels in code.values():
        measured |= kernels
    table = committed()[architecture]
    assert measured.keys() == table.keys(), "run python tests/test_cuda_code.py"
    for name, (registers, spilled) in measured.items():
        assert spilled == 0, name
        assert abs(registers - table[name]) <= REGISTER_SLACK, (name, registers, table[name])


def test_nothing_traps(code, architecture):
    """nvcc is silent where device code needs the address of a host constant, as std::max(x, kLimit)
    does: it compiles a trap."""
    ptx = {
        source: cubin.with_name(f"{source}.ptx").read_text() for source, (cubin, _) in code.items()
    }
    assert all(".entry" in text and f".target {architecture}" in text for text in ptx.values())
    assert [source for source, text in ptx.items() if re.search(r"\btrap;", text)] == []


@pytest.mark.parametrize(
    ("source", "kernels"),
    [
        ("window_scores", ["window_partials_kernel", "window_scores_kernel"]),
        ("decode_attention", ["decode_attention_kernel"]),
    ],
)
def test_16_bit_logits_come_from_the_tensor_cores(source, kernels, code):
    nvdisasm = shutil.which("nvdisasm")  # the toolkit's, or the wheel's
    nvdisasm = nvdisasm or pytest.importorskip("nvidia.cu13").__path__[0] + "/bin/nvdisasm"
    cubin, _ = code[source]
    listing = subprocess.run([nvdisasm, "-c", cubin], check=True, capture_output=True, text=True)
    functions = re.split(r"^\s*\.section\s+\.text\.", listing.stdout, flags=re.MULTILINE)[1:]
    products = {
        text.split(",", 1)[0]: len(re.findall(r"\bHMMA\.1688\.F32", text)) for text in functions
    }
    for kernel, dtype in itertools.product(kernels, ("7Float16", "8BFloat16")):
        assert [n > 0 for name, n in products.items() if kernel in name and dtype in name] == [True]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kernel", *ARCHITECTURES])
        for source in SOURCES:
            uses = [resources(compiled(source, arch, Path(folder))[1]) for arch in ARCHITECTURES]
            for name in uses[0]:
                writer.writerow([name, *(use[name][0] for use in uses)])
