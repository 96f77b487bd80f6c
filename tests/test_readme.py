"""The documentation tells the truth: its Python runs, its links lead on, its commands exist."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

import aircache_ext

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_python_of_the_readme_runs():
    """All blocks in order and in one namespace, as a reader would type them."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page):
    """Paths in code spans that start at one of the project's folders."""
    folders = "csrc|include|python|tests|bench|docs|examples|requirements|cmake"
    for path in re.findall(rf"`((?:{folders})/[\w./-]*\w)`", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_exist(page):
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for name in re.findall(r"(?:`|^    )make ([a-z][a-z0-9-]*)", page.read_text(), re.MULTILINE):
        assert name in targets, name


def test_every_public_name_is_in_the_readme():
    text = README.read_text()
    for name in set(aircache_ext.__all__) - {"__version__"}:
        assert re.search(rf"\b{name}\b", text), name


def test_every_op_has_a_page_and_is_in_the_readme():
    schema = (ROOT / "csrc" / "torch" / "schema.cpp").read_text()
    ops = re.findall(r'm\.def\(\s*"(\w+)\(', schema)
    assert len(ops) == schema.count("m.def(")
    for op in ops:
        page = f"docs/kernels/{op.rstrip('_')}.md"
        assert (ROOT / page).exists() and f"({page})" in README.read_text(), op
        assert f"`{op}`" in README.read_text(), op


def test_every_method_is_in_the_table():
    table = (ROOT / "docs" / "methods.md").read_text()
    found = re.findall(r"^\| \[(\w+)\]\(\S+/(\w+)\.py\)", table, re.MULTILINE)
    classes = {
        name: cls.__module__.split(".")[-1]
        for name, cls in vars(aircache_ext.methods).items()
        if isinstance(cls, type) and issubclass(cls, aircache_ext.methods.Method)
    }
    del classes["Method"]
    assert dict(found) == classes


def test_the_page_shows_the_example_as_it_is():
    page = (ROOT / "docs" / "methods.md").read_text()
    shown = re.search(r"^    @dataclass.*?\n(?=\n\S)", page, re.DOTALL | re.MULTILINE)
    assert textwrap.dedent(shown.group()) in (ROOT / "examples" / "own_method.py").read_text()
