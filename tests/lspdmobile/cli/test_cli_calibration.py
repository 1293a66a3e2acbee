"""What the command line says of calibration: the estimator, and what is wrong with the pictures."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Done


def export(cli: "Cli", student: Path, people: Path, output: Path, *more: object) -> "Done":
    """Export to int8 TFLite, calibrated on ``people`` unless told otherwise."""
    start = ["export", student, "-f", "tflite", "-p", "w8a8", "--data", people, "--calib", people, "-o", output]
    return cli(*start, "--methods", "none", *more)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_an_estimator_makes_the_ranges_and_is_entered(
    student_file: Path, people: Path, tmp_path: Path, cli: "Cli"
) -> None:
    done = export(cli, student_file, people, tmp_path / "out", "--estimator", "percentile")
    assert done.code in (0, 3), done.err
    plan = read(tmp_path / "out" / "plan.json")["plans"][0]
    assert (plan["activations"]["estimator"], plan["activations"]["percentile"]) == ("percentile", 99.99)
    assert set(plan["range_estimators"].values()) == {"min-max"}
    report = read(tmp_path / "out" / "report.json")
    assert "range_estimators" not in report["plan"]["w8a8"]
    found = {finding["check"]: finding for finding in report["calibration"]["findings"]}
    assert (report["calibration"]["pictures"], report["calibration"]["estimator"]) == (8, "percentile")
    assert {"few pictures", "overlap with evaluation"} <= set(found)
    for finding in found.values():
        assert f"calibration {finding['severity']}: {finding['what']}" in done.out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "percentile ranges of 8 pictures" in page
    assert found["few pictures"]["what"] in page


def test_an_unknown_estimator_is_wrong_usage(student_file: Path, people: Path, tmp_path: Path, cli: "Cli") -> None:
    done = export(cli, student_file, people, tmp_path / "out", "--estimator", "median")
    assert done.code == 2
    assert "moving-average" in done.err


def test_meaningless_calibration_stops_before_anything_is_written(
    student_file: Path, people: Path, tmp_path: Path, cli: "Cli"
) -> None:
    same = tmp_path / "same"
    same.mkdir()
    for index in range(4):
        shutil.copy(people / "images" / "0.png", same / f"{index}.png")
    done = export(cli, student_file, people, tmp_path / "out", "--calib", same)
    assert done.code == 2
    assert "all 4 calibration pictures are the same picture (0.png); calibrate on different pictures" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("estimator", ["min-max", "entropy"])
def test_a_dry_run_names_the_estimator(
    student_file: Path, people: Path, tmp_path: Path, cli: "Cli", estimator: str
) -> None:
    done = export(cli, student_file, people, tmp_path / "out", "--dry-run", "--estimator", estimator)
    assert done.code == 0, done.err
    assert f", {estimator}\n" in done.out
