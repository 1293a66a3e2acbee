"""What an installed lspdmobile consists of: built from a copy of the tree, without a network."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

import lspdmobile

ROOT = Path(lspdmobile.__file__).parent.parent
PACKAGES = ("lspdmobile", "converters", "quantization")
CACHES = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.partial")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """Build the wheel and open it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*PACKAGES, "tests", "apps_demo", "benchmarks"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, source / name, ignore=CACHES)
    build = "from setuptools import build_meta; build_meta.build_wheel('out')"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (source / "out").glob("*.whl")
    with ZipFile(file) as archive:
        yield archive


def test_the_wheel_has_exactly_three_packages_and_its_own_metadata(wheel: ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {*PACKAGES, f"lspdmobile-{lspdmobile.__version__}.dist-info"}


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel: ZipFile) -> None:
    inside = {name for name in wheel.namelist() if name.split("/")[0] in PACKAGES}
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert inside == tree
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside


def test_the_command_the_licence_and_the_lowest_python_are_declared(wheel: ZipFile) -> None:
    info = f"lspdmobile-{lspdmobile.__version__}.dist-info"
    assert "lspdmobile = lspdmobile.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert any(name.endswith("LICENSE") for name in wheel.namelist())
