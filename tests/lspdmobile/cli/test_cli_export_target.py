"""Artifacts of one run that are fused differently: what the files say of it, and that ``verify`` goes by the same."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lspdmobile.report.manifest import file_entries

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli


BAD_INPUT, GATE_FAILED = 2, 3
COREML, TFLITE, PTE = "colours_w8a8.mlpackage", "colours_w8a8.tflite", "colours_w8a8.pte"


@pytest.fixture(scope="module")
def exported(student_file: Path, people: Path, run_here: "Cli", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export to three formats in int8."""
    folder: Path = tmp_path_factory.mktemp("runs") / "colours"
    options = ["--precision", "w8a8", "--data", people, "--calib", people, "-o", folder, "--max-drop", "100"]
    options += ["--methods", "none"]
    done = run_here("export", student_file, *options)
    assert "fused for coreml-ane: " in done.out, done.err
    assert "fused for litert-xnnpack, executorch-xnnpack: " in done.out
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_report_says_which_form_every_block_took_and_why(exported: Path) -> None:
    report = read(exported / "report.json")
    targets = {a["file"]: a["target"] for a in report["artifacts"]}
    assert targets == {COREML: "coreml-ane", TFLITE: "litert-xnnpack", PTE: "executorch-xnnpack"}
    first, (second,) = report["fusion"], report["fusion"]["others"]
    assert first["artifacts"] == ["coreml w8a8"]
    assert second["artifacts"] == ["tflite w8a8", "executorch w8a8"]
    forms = {f["target"]: f for each in (first, second) for f in each["forms"]}
    assert [forms[target]["form"] for target in targets.values()] == [
        "5x5 depthwise",
        *["3x3 d2 depthwise + 3x3 depthwise"] * 2,
    ]
    assert all(f["dtype"] == "int8" and f["cost"] <= min(f["apart"], f["one_kernel"]) for f in forms.values())
    page = (exported / "report.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("3x3 d2 depthwise + 3x3 depthwise", "litert-xnnpack int8", "coreml-ane int8"))


def test_certificates_and_plans_of_both_networks_are_kept(exported: Path) -> None:
    certificate = read(exported / "fusion.json")
    assert certificate["passed"]
    assert [each["passed"] for each in certificate["others"]] == [True]
    plans = {tuple(plan["files"]): plan for plan in read(exported / "plan.json")["plans"]}
    assert set(plans) == {(COREML,), (TFLITE, PTE)}
    one, other = plans.values()
    assert one["calibration_sha256"] == other["calibration_sha256"]
    assert one["ranges"].keys() != other["ranges"].keys()


def relist(run: Path, name: str) -> None:
    """Let the manifest list a changed file."""
    manifest = read(run / "manifest.json")
    manifest["files"][name] = file_entries(run, [name])[name].model_dump()
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_verify_compares_with_the_network_a_file_was_made_from(exported: Path, tmp_path: Path, cli: "Cli") -> None:
    run = Path(shutil.copytree(exported, tmp_path / "run"))
    found = cli("verify", run, "--json").json
    assert [a["verdict"] for a in found["artifacts"]] == [a["verdict"] for a in read(run / "report.json")["artifacts"]]
    report = read(run / "report.json")
    report["artifacts"][0]["target"] = "litert-xnnpack"
    (run / "report.json").write_text(json.dumps(report), encoding="utf-8")
    relist(run, "report.json")
    found = cli("verify", run, "--json")
    assert found.code == GATE_FAILED
    assert "it was made from another network" in " ".join(found.json["artifacts"][0]["reasons"])
    assert [a["verdict"] for a in found.json["artifacts"][1:]] == [a["verdict"] for a in report["artifacts"][1:]]


def test_one_target_for_all_gives_one_network(student_file: Path, people: Path, tmp_path: Path, cli: "Cli") -> None:
    options = ["--format", "coreml,tflite", "--precision", "fp32", "--data", people, "--target", "coreml-ane"]
    done = cli("export", student_file, *options, "-o", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert {a["target"] for a in done.json["artifacts"]} == {"coreml-ane"}
    assert done.json["fusion"]["others"] == []
    assert done.json["fusion"]["artifacts"] == ["coreml fp32", "tflite fp32"]


def test_an_unknown_target_is_refused_before_any_work(student_file: Path, tmp_path: Path, cli: "Cli") -> None:
    done = cli("export", student_file, "--target", "abacus", "-o", tmp_path / "run")
    assert done.code == BAD_INPUT
    assert "unknown target 'abacus': choose from litert-xnnpack" in done.err
    assert not (tmp_path / "run").exists()
