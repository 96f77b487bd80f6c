"""Every way in which loading can fail says what is wrong and what to do."""

import importlib
import sys
from types import ModuleType

import pytest

from aircache_ext import _loader


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch):
    """Replaces what importing a module gives: a module, or an error that is raised."""
    results: dict[str, ModuleType | ImportError] = {"torch": torch_of("2.13.0")}
    original = importlib.import_module

    def import_module(name: str) -> ModuleType:
        result = results[name] if name in results else original(name)
        if isinstance(result, ImportError):
            raise result
        return result

    monkeypatch.setattr(importlib, "import_module", import_module)
    return results


def torch_of(version: str) -> ModuleType:
    torch = ModuleType("torch")
    torch.__version__ = version
    return torch


def message() -> str:
    with pytest.raises(ImportError) as caught:
        _loader.load()
    return str(caught.value)


def test_load_gives_the_module() -> None:
    module = _loader.load()
    assert module.__name__ == "aircache_ext._C"
    assert module.build_info()["torch_target"] == ".".join(map(str, _loader.OLDEST_TORCH))


def test_without_torch(imports) -> None:
    imports["torch"] = ModuleNotFoundError("No module named 'torch'", name="torch")
    assert message() == (
        f"aircache_ext needs torch >= 2.10, and {sys.executable} has none. "
        "Install it: `pip install 'torch>=2.10'`."
    )


def test_torch_that_misses_something_of_its_own(imports) -> None:
    imports["torch"] = ModuleNotFoundError("No module named 'sympy'", name="sympy")
    assert message() == "No module named 'sympy'"


@pytest.mark.parametrize("version", ["2.9.1", "2.9.0+cu128", "1.13.0a0+git123"])
def test_old_torch(imports, version: str) -> None:
    imports["torch"] = torch_of(version)
    assert message() == (
        f"aircache_ext needs torch >= 2.10, but {sys.executable} has torch {version}. "
        "Upgrade it: `pip install 'torch>=2.10'`."
    )


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.0", "2.15.0a0+git123", "unknown"])
def test_new_enough_torch(imports, version: str) -> None:
    imports["torch"] = torch_of(version)
    _loader.load()


MISSING = ModuleNotFoundError("No module named 'aircache_ext._C'", name="aircache_ext._C")


def test_not_compiled(imports, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    imports["aircache_ext._C"] = MISSING
    monkeypatch.setattr(_loader, "__file__", str(tmp_path / "_loader.py"))
    assert "aircache_ext is not compiled" in message()
    assert "pip install --no-build-isolation ." in message()


def test_compiled_for_another_python(imports, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    imports["aircache_ext._C"] = MISSING
    (tmp_path / "_C.cpython-39-x86_64-linux-gnu.so").touch()
    monkeypatch.setattr(_loader, "__file__", str(tmp_path / "_loader.py"))
    assert "compiled for another Python" in message()
    assert sys.implementation.cache_tag in message()
    assert "_C.cpython-39-x86_64-linux-gnu.so" in message()


def test_library_missing(imports) -> None:
    imports["aircache_ext._C"] = ImportError(
        "libaircache_ext.so: cannot open shared object file: No such file or directory"
    )
    assert "libaircache_ext.so is not beside _C" in message()


def test_torch_of_another_abi(imports) -> None:
    imports["aircache_ext._C"] = ImportError(
        "/x/libaircache_ext.so: undefined symbol: torch_call_dispatcher"
    )
    assert "does not fit the installed torch" in message()
    assert "torch 2.13.0 lacks" in message()
    assert "undefined symbol: torch_call_dispatcher" in message()


def test_anything_else_is_passed_on(imports) -> None:
    imports["aircache_ext._C"] = ImportError("GLIBCXX_3.4.32 not found")
    assert "GLIBCXX_3.4.32 not found" in message()
