"""Drives the CMake build for pip: everything else about the package stands in pyproject.toml.

CMAKE_ARGS adds options to the configuration, e.g. CMAKE_ARGS=-DAIRCACHE_BUILD_TESTS=ON.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
# Fixed, and one per Python: a second build compiles only what changed.
BUILD = ROOT / "build" / sysconfig.get_config_var("SOABI")


class CMakeBuild(build_ext):
    """Builds libaircache_ext.so and _C with CMake and puts them into the package."""

    def build_extension(self, ext: Extension) -> None:
        cmake(
            *("-S", ROOT, "-B", BUILD, "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        )
        cmake("--build", BUILD)
        self.install_into(Path(self.get_ext_fullpath(ext.name)).parent)

    def copy_extensions_to_source(self) -> None:
        """For editable installs: the package is imported from where its sources are."""
        self.install_into(ROOT / "python" / "aircache_ext")

    def install_into(self, package: Path) -> None:
        cmake("--install", BUILD, "--component", "python", "--strip", "--prefix", package.resolve())


def cmake(*args: object) -> None:
    """The cmake and ninja of this Python's environment come before the system's."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    subprocess.run(["cmake", *map(str, args)], check=True, env={**os.environ, "PATH": path})


def version() -> str:
    header = (ROOT / "include" / "aircache" / "version.h").read_text()
    match = re.search(r'AIRCACHE_VERSION "(.+)"', header)
    assert match, "include/aircache/version.h does not define AIRCACHE_VERSION"
    return match.group(1)


setup(
    version=version(),
    ext_modules=[Extension("aircache_ext._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
