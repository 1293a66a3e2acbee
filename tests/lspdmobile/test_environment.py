"""What is installed, as importlib.metadata says it."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from lspdmobile import __version__
from lspdmobile.choices import Format
from lspdmobile.environment import RUNTIMES, environment, is_macos, missing, versions


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["lspdmobile"] == __version__
    assert found["python"] == platform.python_version()
    assert found["numpy"] == metadata.version("numpy")
    assert found["torch"] == metadata.version("torch")
    assert None not in found.values()


def test_the_environment_adds_the_machine() -> None:
    found = environment()
    assert found.items() > versions().items()
    assert (found["system"], found["machine"]) == (platform.system(), platform.machine())
    assert is_macos() == (found["system"] == "Darwin")


def test_every_format_says_what_it_needs() -> None:
    assert set(RUNTIMES) == set(Format)


def test_what_is_missing_is_named_as_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = (("json", "json-is-here"), ("no_such_module_anywhere", "no-such-package"))
    monkeypatch.setitem(RUNTIMES, Format.COREML, needed)
    assert missing(Format.COREML) == ("no-such-package",)


def test_asking_imports_no_runtime() -> None:
    script = (
        "import sys\n"
        "from lspdmobile.choices import Format\n"
        "from lspdmobile.environment import environment, missing\n"
        "environment(); [missing(f) for f in Format]\n"
        "heavy = {'torch', 'coremltools', 'litert_torch', 'executorch', 'tensorflow'} & set(sys.modules)\n"
        "print(*heavy)\n"
    )
    root = Path(__file__).parents[2]
    asked = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert (asked.returncode, asked.stdout.strip(), asked.stderr) == (0, "", "")
