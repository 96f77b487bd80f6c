"""The C++ tests, one pytest item each. `make build` builds them; ctest knows them."""

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "build" / sysconfig.get_config_var("SOABI")
CTEST = shutil.which("ctest", path=sysconfig.get_path("scripts")) or shutil.which("ctest")


def cpp_tests() -> list[str]:
    if CTEST is None or not (BUILD / "CTestTestfile.cmake").exists():
        return []
    listing = subprocess.run(
        [CTEST, "--test-dir", BUILD, "--show-only=json-v1"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [test["name"] for test in json.loads(listing)["tests"]]


TESTS = cpp_tests()


@pytest.mark.parametrize("name", TESTS)
def test_cpp(name: str) -> None:
    done = subprocess.run(
        [CTEST, "--test-dir", BUILD, "--output-on-failure", "--tests-regex", f"^{name}$"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not TESTS, reason="the C++ tests are not built: `make build` does")
def test_every_cpp_test_is_seen() -> None:
    assert {"error_messages", "row_budgets", "worker_counts"} <= set(TESTS)
