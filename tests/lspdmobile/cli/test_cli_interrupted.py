"""An export that is interrupted or killed: the documented exit code, and no target that is half made."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, World


ROOT = Path(__file__).parents[3]
USAGE = 2
INTERRUPTED = 130


Start = Callable[..., "subprocess.Popen[str]"]


def started(start_process: Start, world: "World") -> tuple["subprocess.Popen[str]", Path]:
    """Start an export as a process and wait until it is at work; give it and its hidden folder."""
    process = start_process(*world.export("-p", "fp32"))
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        if found := list(world.folder.glob(".out.*.partial")):
            return process, found[0]
        time.sleep(0.05)
    process.kill()
    message = f"the export did not start: {process.communicate()[1]}"
    raise AssertionError(message)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(sent: signal.Signals, world: "World", start_process: Start) -> None:
    before = world.tree()
    process, _ = started(start_process, world)
    process.send_signal(sent)
    out, err = process.communicate(timeout=300)
    assert process.returncode == INTERRUPTED, err
    assert (out, err) == ("", "error: interrupted; nothing half-made was left behind\n")
    assert world.tree() == before


def test_an_interrupt_inside_generated_code_has_the_same_exit_code(tmp_path: Path) -> None:
    (tmp_path / "generated.py").write_text(
        "import lspdmobile.cli as cli\ncli.app = lambda: exec('raise KeyboardInterrupt')\ncli.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-m", "generated"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (INTERRUPTED, "error: interrupted; nothing half-made was left behind\n")


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_a_library_swallows_stops_at_the_next_step(sent: str, tmp_path: Path) -> None:
    (tmp_path / "swallowing.py").write_text(
        "import os, signal, time\n"
        "import lspdmobile.cli as cli\n"
        "from lspdmobile.cli.terminal import working\n"
        "def app():\n"
        "    with working(verbose=False) as terminal:\n"
        "        try:\n"
        f"            os.kill(os.getpid(), signal.{sent})\n"
        "            time.sleep(10)\n"
        "        except BaseException:\n"
        "            pass\n"
        "        terminal.progress('next', 0, 1)\n"
        "cli.app = app\n"
        "cli.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-m", "swallowing"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (INTERRUPTED, "error: interrupted; nothing half-made was left behind\n")


def test_what_a_killed_run_left_is_removed_by_the_next(world: "World", start_process: Start, cli: "Cli") -> None:
    before = world.tree()
    process, hidden = started(start_process, world)
    process.kill()
    process.communicate()
    assert hidden.is_dir()
    assert not world.output.exists()
    done = cli(*world.export("--calib", world.folder / "nowhere"))
    assert done.code == USAGE
    assert world.tree() == before
