"""``lspdmobile benchmark`` on files of a real export."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Exported


INT8, FLOAT = "colours_w8a8.tflite", "colours_float32.tflite"


def test_a_run_folder_is_timed_file_by_file(cli: "Cli", exported: "Exported") -> None:
    done = cli("benchmark", exported.folder, "--rounds", 8, "--warm-up", 1, "--json")

    assert done.code == 0, done.err
    rows = {Path(row["file"]).name: row for row in done.json["rows"]}
    assert set(rows) == {INT8, FLOAT}
    for name, row in rows.items():
        low, high = row["middle_half_ms"]
        assert 0 < low <= row["median_ms"] <= high
        assert row["ratio_interval"][0] <= row["ratio"] <= row["ratio_interval"][1]
        assert row["bytes"] == (exported.folder / name).stat().st_size
        assert "LiteRT" in row["executed_by"]
        assert (row["memory_mb"] is not None) == (sys.platform == "linux")
    assert done.json["rows"][0]["ratio"] == 1
    assert (done.json["threads"], done.json["rounds"], done.json["warm_up"]) == (1, 8, 1)


def test_ratios_are_of_the_file_named_first(cli: "Cli", exported: "Exported") -> None:
    files = exported.folder / INT8, exported.folder / FLOAT

    done = cli("benchmark", *files, "--rounds", 2, "--no-memory", "--json")

    assert [Path(row["file"]).name for row in done.json["rows"]] == [INT8, FLOAT]
    assert [row["ratio"] == 1 for row in done.json["rows"]] == [True, False]
    assert done.json["rows"][0]["memory_mb"] is None


def test_the_table_says_threads_rounds_and_host(cli: "Cli", exported: "Exported") -> None:
    done = cli("benchmark", exported.folder, "--rounds", 2, "--no-memory", "--threads", 2)

    assert done.code == 0, done.err
    assert INT8 in done.out
    assert "2 threads, 2 rounds in turns after 10" in done.out
    assert "host: " in done.out


def test_nothing_there(cli: "Cli", tmp_path: Path) -> None:
    done = cli("benchmark", tmp_path / "absent.tflite")

    assert (done.code, done.out) == (2, "")
    assert "absent.tflite: no such artifact or folder" in done.err


def test_a_folder_without_artifacts(cli: "Cli", tmp_path: Path) -> None:
    done = cli("benchmark", tmp_path)

    assert done.code == 2
    assert "neither an artifact (.mlpackage, .tflite, .pte) nor a folder of some" in done.err


def test_a_damaged_file_is_refused_before_anything_is_timed(cli: "Cli", exported: "Exported", tmp_path: Path) -> None:
    shutil.copy(exported.folder / INT8, tmp_path / "good.tflite")
    (tmp_path / "bad.tflite").write_bytes((exported.folder / INT8).read_bytes()[:500])

    done = cli("benchmark", tmp_path, "--no-memory")

    assert done.code == 2
    assert "bad.tflite" in done.err
    assert done.out == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac runs Core ML itself")
def test_core_ml_is_not_timed_where_it_is_not_run(cli: "Cli", exported: "Exported", tmp_path: Path) -> None:
    student = exported.folder / "colours.safetensors"
    run = tmp_path / "run"
    cli("export", student, "-f", "coreml", "-p", "fp32", "--num-evaluation-samples", 2, "-o", run)
    assert list(run.glob("*.mlpackage"))

    alone = cli("benchmark", run)
    beside = cli("benchmark", run, exported.folder / INT8, "--rounds", 1, "--no-memory")

    assert alone.code == 5
    assert "nothing to time here" in alone.err
    assert "MIL executor" in alone.err
    assert beside.code == 0
    assert "left out: colours_float32.mlpackage is run here by MIL executor" in beside.out
