"""Asking for help must not wait for torch or a converter to load."""

import subprocess
import sys

import pytest

from lspdmobile.cli import app

HEAVY = ("torch", "coremltools", "tensorflow", "executorch", "litert_torch", "ai_edge_litert")
COMMANDS = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
CODE = """
import sys
sys.argv = ["lspdmobile", *sys.argv[1:]]
from lspdmobile.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print("HEAVY", *[name for name in {heavy!r} if name in sys.modules])
sys.exit(code)
"""


def heavy_after(*arguments: str) -> list[str]:
    """Run the command in a fresh interpreter; give the heavy packages it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(heavy=HEAVY), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Usage" in done.stdout
    return done.stdout.splitlines()[-1].split()[1:]


def test_a_package_that_was_loaded_is_noticed() -> None:
    code = CODE.format(heavy=("colorsys",)).replace("import sys", "import sys, colorsys", 1)
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "HEAVY colorsys"


def test_help_loads_nothing_heavy() -> None:
    assert heavy_after("--help") == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    assert heavy_after(command, "--help") == []
