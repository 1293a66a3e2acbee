"""Safe writing: a run leaves its whole result or what was there before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lspdmobile.artifact import sha256_of
from lspdmobile.errors import BadInputError
from lspdmobile.replacing import replacing_folder


def fill(folder: Path, text: str = "new") -> None:
    (folder / "golden").mkdir()
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "golden" / "input").write_bytes(b"\0\1")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def dead_pid() -> int:
    """Give the number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def write(target: Path, *, overwrite: bool = False, text: str = "new") -> None:
    with replacing_folder(target, overwrite=overwrite) as folder:
        fill(folder, text)


def test_success_leaves_the_whole_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with replacing_folder(target, overwrite=False) as folder:
        fill(folder)
        assert not target.exists()
        assert folder.parent == target.parent
    assert names(target) == ["golden", "report.json"]
    assert names(target.parent) == ["run"]


def test_the_folder_is_as_open_as_any_other(tmp_path: Path) -> None:
    write(tmp_path / "run")
    (tmp_path / "other").mkdir()
    assert (tmp_path / "run").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_any_failure_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    def interrupted() -> None:
        with replacing_folder(tmp_path / "run", overwrite=False) as folder:
            fill(folder)
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert names(tmp_path) == []


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_a_failed_overwrite_leaves_the_old_folder(tmp_path: Path, stop: type[BaseException]) -> None:
    write(tmp_path / "run", text="old")
    before = sha256_of(tmp_path / "run")

    def interrupted() -> None:
        with replacing_folder(tmp_path / "run", overwrite=True) as folder:
            fill(folder)
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert names(tmp_path) == ["run"]
    assert sha256_of(tmp_path / "run") == before


def test_an_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    write(tmp_path / "run", text="old")
    before = sha256_of(tmp_path / "run")
    with pytest.raises(BadInputError, match=r"already exists.*--overwrite"):
        write(tmp_path / "run")
    assert names(tmp_path) == ["run"]
    assert sha256_of(tmp_path / "run") == before


def test_overwriting_replaces_everything(tmp_path: Path) -> None:
    write(tmp_path / "run", text="old")
    (tmp_path / "run" / "stale").touch()
    write(tmp_path / "run", overwrite=True)
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["golden", "report.json"]
    assert (tmp_path / "run" / "report.json").read_text(encoding="utf-8") == "new"


def test_overwriting_replaces_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file", encoding="utf-8")
    write(tmp_path / "run", overwrite=True)
    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run").is_dir()


def test_a_folder_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def raced() -> None:
        with replacing_folder(tmp_path / "run", overwrite=False) as folder:
            fill(folder)
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "theirs").touch()

    with pytest.raises(BadInputError, match="already exists"):
        raced()
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["theirs"]


def test_an_old_folder_whose_successor_is_lost_stays(tmp_path: Path) -> None:
    write(tmp_path / "run", text="old")
    before = sha256_of(tmp_path / "run")

    def lost() -> None:
        with replacing_folder(tmp_path / "run", overwrite=True) as folder:
            folder.rmdir()

    with pytest.raises(FileNotFoundError):
        lost()
    assert names(tmp_path) == ["run"]
    assert sha256_of(tmp_path / "run") == before


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    write(tmp_path / "disk", text="old")
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    write(tmp_path / "run", overwrite=True)
    assert names(tmp_path) == ["disk", "run"]
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "disk" / "report.json").read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("levels", [0, 1])
def test_the_current_folder_and_what_holds_it_are_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    work = tmp_path / "project" / "src"
    work.mkdir(parents=True)
    (work / "precious").touch()
    monkeypatch.chdir(work)
    with pytest.raises(BadInputError, match="would delete the current folder"):
        write(Path(*[".."] * levels), overwrite=True)
    assert (work / "precious").exists()
    assert names(tmp_path) == ["project"]


def test_the_home_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "user"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for target in (home, home.parent):
        with pytest.raises(BadInputError, match="your home"):
            write(target, overwrite=True)
    assert home.is_dir()


@pytest.mark.parametrize("name", ["run", "run[1]", "run.1", "run*"])
def test_what_a_dead_process_left_is_removed(tmp_path: Path, name: str) -> None:
    leftover = tmp_path / f".{name}.{dead_pid()}.0a1b2c3d.partial"
    leftover.mkdir()
    fill(leftover)
    write(tmp_path / name)
    assert names(tmp_path) == [name]


def test_what_a_live_process_is_writing_is_kept(tmp_path: Path) -> None:
    ours = tmp_path / f".run.{os.getpid()}.0a1b2c3d.partial"
    ours.mkdir()
    write(tmp_path / "run")
    assert names(tmp_path) == [ours.name, "run"]


def test_the_leftovers_of_other_targets_are_kept(tmp_path: Path) -> None:
    """``run.7`` is another target: the 7 is no process number."""
    pid = dead_pid()
    others = [f".run.{pid}.{os.getpid()}.0a1b2c3d.partial", f".other.{pid}.0a1b2c3d.partial", f".run.{pid}.note"]
    for name in others:
        (tmp_path / name).mkdir()
    write(tmp_path / "run")
    assert names(tmp_path) == sorted([*others, "run"])


def test_a_target_lost_in_mid_replacement_comes_back(tmp_path: Path) -> None:
    """A process killed between the two renames leaves the old folder under a hidden name."""
    old = tmp_path / f".run.{dead_pid()}.0a1b2c3d.replaced"
    old.mkdir()
    fill(old, "old")
    with pytest.raises(BadInputError, match="already exists"):
        write(tmp_path / "run")
    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run" / "report.json").read_text(encoding="utf-8") == "old"


def test_a_replaced_target_that_has_a_successor_is_removed(tmp_path: Path) -> None:
    write(tmp_path / "run", text="newer")
    (tmp_path / f".run.{dead_pid()}.0a1b2c3d.replaced").mkdir()
    write(tmp_path / "run", overwrite=True)
    assert names(tmp_path) == ["run"]


def test_a_process_killed_outright_leaves_no_half_made_target(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from lspdmobile.replacing import replacing_folder\n"
        "with replacing_folder(Path(sys.argv[1]), overwrite=False) as folder:\n"
        "    (folder / 'half').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")], env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )
    assert killed.returncode < 0
    assert not (tmp_path / "run").exists()
    assert len(names(tmp_path)) == 1
    write(tmp_path / "run")
    assert names(tmp_path) == ["run"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot be written"):
        write(tmp_path / "file" / "run")
    with pytest.raises(BadInputError, match="cannot be written"):
        write(tmp_path / ("x" * 300))
    assert names(tmp_path) == ["file"]


def test_a_loop_of_links_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(BadInputError, match="cannot be written"):
        write(tmp_path / "a" / "run")
