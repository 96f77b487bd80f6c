"""What is installed: version, stub, the library's surface; and the wheel, made and tried."""

import ast
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import aircache_ext
from aircache_ext import _C

ROOT = Path(__file__).parents[1]
PACKAGE = Path(_C.__file__).parent
LIBRARY = PACKAGE / "libaircache_ext.so"


def run(*command: object, **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_version() -> None:
    header = (ROOT / "include" / "aircache" / "version.h").read_text()
    assert f'"{version("aircache_ext")}"' in header
    assert aircache_ext.__version__ == version("aircache_ext") == _C.build_info()["version"]


def test_stub_names_what_the_module_has() -> None:
    stub = ast.parse((PACKAGE / "_C.pyi").read_text())
    functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert functions == {name for name in dir(_C) if not name.startswith("_")}
    build_info = next(node for node in stub.body if isinstance(node, ast.ClassDef))
    keys = [node.target.id for node in build_info.body if isinstance(node, ast.AnnAssign)]
    assert keys == list(_C.build_info())


def test_library_shows_the_core_and_nothing_else() -> None:
    symbols = run("nm", "-DC", "--defined-only", LIBRARY).splitlines()
    names = [re.sub(r"^[0-9a-f]+ . ", "", symbol) for symbol in symbols]
    backends = ["cpu", "cuda"] if _C.build_info()["cuda"] else ["cpu"]
    prefixes = tuple(f"aircache::{backend}::" for backend in backends)
    assert [name for name in names if not name.startswith(prefixes)] == []
    for prefix in prefixes:
        assert any(name.startswith(f"{prefix}window_scores(") for name in names)


@pytest.mark.parametrize("file", [LIBRARY, Path(_C.__file__)], ids=lambda file: file.name)
def test_libraries_are_found_beside_each_other(file: Path) -> None:
    dynamic = run("readelf", "-d", file)
    assert re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", dynamic) == ["$ORIGIN"]


def test_library_is_free_of_python() -> None:
    assert "libpython" not in run("readelf", "-d", LIBRARY)
    assert not re.search(r" U _?Py", run("nm", "-D", LIBRARY))


# ---- the wheel ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.mark.full
def test_wheel_holds_the_package(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{python}-{python}-linux_" in wheel.name
    names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist()}
    assert names >= {Path(_C.__file__).name, "libaircache_ext.so", "_C.pyi", "py.typed", "LICENSE"}
    package = ROOT / "python" / "aircache_ext"
    assert names >= {path.name for path in package.rglob("*") if path.suffix in {".py", ".css"}}


@pytest.mark.full
def test_sdist_holds_the_sources(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    names = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
    for folder in ("csrc", "include", "cmake", "tests", "bench", "examples"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in {".pyc", ".so"}:
                assert str(path.relative_to(ROOT)) in names


COMPRESS = """
import torch, aircache_ext
visual = torch.zeros(1, 60, dtype=torch.bool)
visual[:, 5:50] = True
k, v, q = (torch.randn(1, heads, rows, 16) for heads, rows in ((2, 60), (2, 60), (4, 8)))
kept = aircache_ext.compress(k, v, q, visual=visual, retention=0.2)
print(aircache_ext.__file__, tuple(kept.keys.shape), torch.__file__, sep="\\n")
"""


@pytest.mark.full
def test_wheel_in_a_clean_environment(dist: Path, tmp_path: Path) -> None:
    """Its dependencies are borrowed: the folder that holds torch comes last on the path.

    Only the wheel is installed; the editable package of this environment is not to be seen, since
    pip finds it through a .pth file and those count in an environment's own folder only.
    """
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(site) / "borrowed.pth").write_text(str(Path(torch.__file__).parents[1]))

    package, shape, torch_file = run(python, "-c", COMPRESS, cwd=tmp_path).split("\n")[:3]
    assert package == str(Path(site) / "aircache_ext" / "__init__.py")
    assert shape == str((1, 2, 15 + 9, 16))
    assert torch_file == torch.__file__
