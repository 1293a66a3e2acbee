"""One complete export through the command line, and what every other command makes of it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from PIL import Image

from lspdmobile.artifact import sha256_of
from lspdmobile.decode import decode
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.networks.presets import PRESETS
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.program import load_program, save_program
from lspdmobile.student import load_student, save_student

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Exported


GATE_FAILED = 3
TOP_KEYS = {"schema_version", "student", "reference", "fusion", "plan", "artifacts", "verdict", "environment"}
ARTIFACT_KEYS = {
    *("file", "format", "precision", "bytes", "sha256", "params", "macs", "weight_bytes_by_dtype", "executed_by"),
    *("export_seconds", "latency_ms", "delegation", "parity", "verdict", "reasons"),
}
INT8 = "colours_w8a8.tflite"
FLOAT = "colours_float32.tflite"
FILES = {
    *("report.json", "report.html", "manifest.json", "fusion.json", "plan.json", "golden", "colours.safetensors"),
    *("plan_1.safetensors", "report.md", "MODEL_CARD.md"),
    *(INT8, FLOAT),
}


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(exported: "Exported", tmp_path: Path) -> Path:
    """Copy the run folder, to be damaged."""
    return Path(shutil.copytree(exported.folder, tmp_path / "run"))


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def test_an_export_passes_and_prints_its_report_and_nothing_else(exported: "Exported") -> None:
    assert exported.code == 0, exported.err
    assert exported.err == ""
    report = json.loads(exported.out)
    assert report == read(exported.folder / "report.json")
    assert report["verdict"] == "pass"
    assert report["repairs"] == []
    assert {(*each["artifacts"], each["method"]) for each in report["methods"]} == {
        ("tflite w8a8", method) for method in ("equalization", "rounding", "range-tuning")
    }
    assert {p.name for p in exported.folder.iterdir()} == FILES
    assert [p.name for p in exported.folder.parent.iterdir()] == ["colours"]


def test_the_report_has_the_keys_of_the_contract(exported: "Exported") -> None:
    report = read(exported.folder / "report.json")
    assert set(report) >= TOP_KEYS
    assert [a["file"] for a in report["artifacts"]] == [FLOAT, INT8]
    for artifact in report["artifacts"]:
        assert set(artifact) >= ARTIFACT_KEYS
        assert artifact["executed_by"].startswith("LiteRT")
        assert artifact["parity"]["images"] == 8
        assert artifact["parity"]["metric"]["name"] == "pck@0.2"
        assert {each["condition"] for each in artifact["parity"]["per_condition"]} >= {"size", "visibility", "light"}
        assert artifact["parity"]["agreement_pck"]["agreement@0.05"] == 1.0
        assert artifact["bytes"] == (exported.folder / artifact["file"]).stat().st_size
    assert report["fusion"]["certificate"]["passed"] is True


def test_the_manifest_lists_every_file_with_its_hash(exported: "Exported") -> None:
    manifest = read(exported.folder / "manifest.json")
    present = {p.relative_to(exported.folder).as_posix() for p in exported.folder.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == present - {"manifest.json"}
    for name, listed in manifest["files"].items():
        assert listed["sha256"] == sha256_of(exported.folder / name)
    hashes = {a["file"]: a["sha256"] for a in read(exported.folder / "report.json")["artifacts"]}
    assert hashes == {name: manifest["files"][name]["sha256"] for name in (FLOAT, INT8)}


def test_the_golden_keypoints_are_the_float_students(exported: "Exported") -> None:
    student = load_student(str(exported.folder / "colours.safetensors"))
    picture = torch.from_numpy(np.load(exported.folder / "golden" / "input.npy"))
    with torch.inference_mode():
        points = decode(student.network(picture).numpy(), contract=student.contract, rule=student.decode_rule)[0]
    expected = np.asarray(read(exported.folder / "golden" / "expected.json")["keypoints"])
    np.testing.assert_allclose(points, expected, atol=2e-3)
    assert len(np.unique(expected[:, :2].round(), axis=0)) == 3


def test_a_run_verifies(exported: "Exported", cli: "Cli") -> None:
    done = cli("verify", exported.folder, "--json")
    assert done.code == 0, done.err
    assert (done.json["passed"], done.json["tampered"]) == (True, [])
    before = {a["file"]: a["parity"] for a in read(exported.folder / "report.json")["artifacts"]}
    assert {a["file"]: a["parity"] for a in done.json["artifacts"]} == before


def test_eight_pictures_cannot_show_what_a_point_is_and_only_float_files_pass(run: Path, cli: "Cli") -> None:
    report = read(run / "report.json")
    report["gate"]["max_drop"] = 1.0
    (run / "report.json").write_text(json.dumps(report), encoding="utf-8")
    manifest = read(run / "manifest.json")
    manifest["files"]["report.json"]["sha256"] = sha256_of(run / "report.json")
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = cli("verify", run, "--json")
    assert done.code == GATE_FAILED
    assert (done.json["verdict"], done.json["passed"], done.json["tampered"]) == ("not enough pictures", False, [])
    float_file, int8 = done.json["artifacts"]
    assert float_file["verdict"] == "pass"
    assert f"no joint of {8 * 14} moved" in float_file["reasons"][0]
    assert int8["verdict"] == "not enough pictures"
    assert "8 pictures cannot show it, about 300 would" in int8["reasons"][0]
    told = cli("verify", run)
    assert told.out.rstrip().endswith("verdict: not enough pictures")
    assert "tflite w8a8: pck@0.2 drops by 0.00 points" in told.out


def test_one_flipped_byte_is_found_and_the_file_not_executed(run: Path, cli: "Cli") -> None:
    content = bytearray((run / INT8).read_bytes())
    content[len(content) // 2] ^= 1
    (run / INT8).write_bytes(content)
    done = cli("verify", run, "--json")
    assert done.code == GATE_FAILED
    assert done.json["tampered"] == [f"{INT8}: is not the file the manifest lists (its sha256 differs)"]
    verdicts = {a["file"]: (a["verdict"], a["parity"] is None) for a in done.json["artifacts"]}
    assert verdicts == {FLOAT: ("pass", False), INT8: ("fail", True)}


def test_a_missing_a_changed_and_an_added_file_are_found(run: Path, cli: "Cli") -> None:
    (run / FLOAT).unlink()
    (run / "plan.json").write_text("{}", encoding="utf-8")
    (run / "other.tflite").write_bytes(b"")
    done = cli("verify", run)
    assert done.code == GATE_FAILED
    named = [line.split(":")[1].strip() for line in done.out.splitlines() if line.startswith("tampered")]
    assert sorted(named) == sorted([FLOAT, "other.tflite", "plan.json"])


def test_a_signed_run_says_who_signed_it_and_that_nothing_was_changed(run: Path, tmp_path: Path, cli: "Cli") -> None:
    generated = ed25519.Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "pub.pem"
    encoding = serialization.Encoding.PEM
    private.write_bytes(
        generated.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(generated.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))
    unsigned = cli("manifest", "verify", run, "--key", public)
    assert (unsigned.code, "nobody signed this run" in unsigned.err) == (3, True)
    assert cli("manifest", "sign", run, "--key", private).code == 0
    assert cli("manifest", "verify", run, "--key", public, "--json").json["signed"]
    assert cli("verify", run, "--key", public, "--json").json["tampered"] == []
    (run / "plan.json").write_bytes((run / "plan.json").read_bytes() + b" ")
    changed = cli("manifest", "verify", run, "--key", public)
    assert changed.code == 3
    assert "plan.json is not the file the manifest lists" in changed.err


def test_a_swapped_checkpoint_leaves_nothing_to_compare_with(run: Path, cli: "Cli") -> None:
    save_other_student(run / "colours.safetensors")
    done = cli("verify", run)
    assert done.code == GATE_FAILED
    assert done.out == ""
    assert "colours.safetensors: is not the file the manifest lists" in done.err


def test_files_that_belong_to_another_student_fail_the_gate_though_every_hash_holds(run: Path, cli: "Cli") -> None:
    save_other_student(run / "colours.safetensors")
    manifest = read(run / "manifest.json")
    manifest["files"]["colours.safetensors"]["sha256"] = sha256_of(run / "colours.safetensors")
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = cli("verify", run, "--json")
    assert done.code == GATE_FAILED
    assert done.json["tampered"] == []
    for artifact in done.json["artifacts"]:
        assert artifact["verdict"] == "fail"
        assert any("drift" in reason for reason in artifact["reasons"])


def save_other_student(path: Path) -> None:
    """Replace a checkpoint by a student that takes every joint for its neighbour."""
    student = load_student(str(path))
    assert isinstance(student.network, LspdStudent)
    head = student.network.stage.heatmap
    with torch.no_grad():
        head.weight.copy_(head.weight.roll(1, dims=0))
    save_student(replace(student, sha256=""), path)


def test_inspect_tells_what_is_in_the_file(exported: "Exported", cli: "Cli") -> None:
    done = cli("inspect", exported.folder / INT8, "--json")
    assert done.code == 0, done.err
    facts = done.json
    entry = next(a for a in read(exported.folder / "report.json")["artifacts"] if a["file"] == INT8)
    assert (facts["bytes"], facts["sha256"], facts["format"]) == (entry["bytes"], entry["sha256"], "tflite")
    assert [(t["shape"], t["dtype"]) for t in facts["inputs"]] == [([1, 64, 64, 3], "float32")]
    assert [t["shape"] for t in facts["outputs"]] == [[1, 8, 8, 14]]
    assert facts["weight_bytes_by_dtype"] == entry["weight_bytes_by_dtype"]
    assert facts["weight_bytes_by_dtype"]["int8"] > 15_000
    contract = PreprocessContract.from_dict(json.loads(facts["metadata"]["preprocess"]))
    assert contract == PreprocessContract(input_size=(64, 64), heatmap_stride=8)


def test_inspect_has_a_page_for_people(exported: "Exported", cli: "Cli") -> None:
    done = cli("inspect", exported.folder / INT8)
    assert done.code == 0, done.err
    assert "CONV_2D x" in done.out
    assert "delegate XNNPACK:" in done.out


def test_diff_tells_runs_and_files_apart(exported: "Exported", run: Path, tmp_path: Path, cli: "Cli") -> None:
    assert cli("diff", exported.folder, run).out == "nothing differs\n"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    report["artifacts"][0]["macs"] += 1
    (run / "report.json").write_text(json.dumps(report), encoding="utf-8")
    found = cli("diff", exported.folder, run, "--json").json
    assert [each["what"] for each in found] == ["macs"]
    files = cli("diff", exported.folder / FLOAT, exported.folder / INT8)
    assert files.code == 0
    assert "weights: int8 weights" in files.out
    for pair in ((exported.folder, exported.folder / INT8), (exported.folder, tmp_path), (tmp_path / "gone", run)):
        assert cli("diff", *pair).code == 2


def test_predict_finds_the_joints_and_draws_them(
    exported: "Exported", people: Path, tmp_path: Path, cli: "Cli"
) -> None:
    picture, drawn = people / "images" / "2.png", tmp_path / "drawn.png"
    done = cli("predict", exported.folder / INT8, picture, "-o", drawn, "--json")
    assert done.code == 0, done.err
    labels = read(people / "annotations" / "person_keypoints_val.json")["annotations"][2]["keypoints"]
    found = np.asarray(list(done.json["keypoints"].values()))
    distance = np.linalg.norm(found[:, :2] - np.asarray(labels).reshape(-1, 3)[:, :2], axis=1)
    assert distance.max() < 12  # one heatmap cell in pixels of the 96-pixel picture
    before, after = (np.asarray(Image.open(p).convert("RGB")) for p in (picture, drawn))
    assert before.shape == after.shape
    assert (before != after).any()


def test_evaluate_scores_student_and_artifact_alike(exported: "Exported", people: Path, cli: "Cli") -> None:
    scores = {}
    for name in ("colours.safetensors", FLOAT):
        done = cli("evaluate", exported.folder / name, "--data", people, "--json")
        assert done.code == 0, done.err
        scores[name] = done.json
    metrics = [found.pop("metrics") for found in scores.values()]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5)
    assert scores[FLOAT] == scores["colours.safetensors"]
    assert set(scores[FLOAT]) >= {"images", "per_joint"}
    assert scores[FLOAT]["images"] == 8
    heads = {"pckh@0.5", "pckh@0.1", "pckh-auc"}
    assert set(metrics[0]) >= {"pck@0.2", "pck-box@0.05", "pck-auc", "oks_ap", "oks_ar", *heads}
    conditions = scores[FLOAT]["per_condition"]
    assert set(conditions) == {"size", "visibility", "unlabelled", "light", "rotation"}
    assert sum(group["persons"] for group in conditions["size"].values()) == 8
    assert metrics[0]["pckh@0.5"] > 0.9


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(student_file: Path, tmp_path: Path, cli: "Cli") -> None:
    done = cli("export", student_file, "-f", "all", "-p", "fp16,w8a8", "-o", tmp_path / "out", "--dry-run")
    assert done.code == 0, done.err
    assert "tflite fp16" in done.out
    assert "executorch w8a8" in done.out
    assert list(tmp_path.iterdir()) == []


def test_fuse_writes_a_certificate_and_replaces_only_its_own(student_file: Path, tmp_path: Path, cli: "Cli") -> None:
    output = tmp_path / "fused"
    done = cli("fuse", student_file, "-o", output, "--json")
    assert done.code == 0, done.err
    assert done.json == read(output / "fusion.json")
    assert done.json["passed"] is True
    assert done.json["params"]["after"] < done.json["params"]["before"]
    assert cli("fuse", student_file, "-o", output).code == 2
    assert cli("fuse", student_file, "-o", output, "--overwrite").code == 0
    done = cli("fuse", student_file, "-o", tmp_path, "--overwrite")
    assert (done.code, "not the folder of an earlier run" in done.err) == (2, True)
    assert {p.name for p in output.iterdir()} == {"fusion.json", "colours_fused.safetensors"}


def test_fuse_takes_any_exported_program_and_writes_one(tmp_path: Path, cli: "Cli") -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
    picture = torch.randn(1, 2, 9, 8)
    save_program(torch.export.export(network, (picture,)), tmp_path / "network.pt2")
    done = cli("fuse", tmp_path / "network.pt2", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert "fold norm 1x" in done.out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"fusion.json", "network_fused.pt2"}
    fused = load_program(tmp_path / "out" / "network_fused.pt2").module()
    with torch.no_grad():
        assert torch.allclose(fused(picture), network(picture), atol=1e-6)
    done = cli("fuse", tmp_path / "out" / "network_fused.pt2", "-o", tmp_path / "again")
    assert (done.code, "nothing was fused" in done.out) == (0, True)


def test_fuse_says_what_is_wrong_with_a_program(tmp_path: Path, cli: "Cli") -> None:
    train = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4))
    save_program(torch.export.export(train, (torch.randn(2, 2, 9, 8),)), tmp_path / "train.pt2")
    done = cli("fuse", tmp_path / "train.pt2", "-o", tmp_path / "out")
    assert (done.code, "train mode" in done.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_fuse_exits_3_where_the_certificate_fails(tmp_path: Path, cli: "Cli", monkeypatch: pytest.MonkeyPatch) -> None:
    """The rewrite is broken on purpose: norms are dropped instead of folded."""
    monkeypatch.setattr("lspdmobile.fusion.views.scaled", lambda linear, _scale, _shift: linear)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    save_program(torch.export.export(network, (torch.randn(1, 2, 9, 8),)), tmp_path / "network.pt2")
    done = cli("fuse", tmp_path / "network.pt2", "-o", tmp_path / "out")
    assert (done.code, "must not ship" in done.err) == (3, True)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def few_presets(tiny_config: LspdConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting the largest networks takes seconds, and other tests do."""
    few = {name: PRESETS[name] for name in ("lspd-s", "lspd-m", "okdhp-hg4")}
    monkeypatch.setattr("lspdmobile.networks.presets.PRESETS", {**few, "tiny": tiny_config})


@pytest.mark.usefixtures("few_presets")
def test_students_lists_every_preset_with_its_cost(cli: "Cli") -> None:
    done = cli("students", "--json")
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in done.json}
    assert rows.keys() == {"lspd-s", "okdhp-s", "ldcrn-s", "lspd-m", "okdhp-hg4", "tiny"}
    bundled = {name for name, row in rows.items() if row["bundled"]}
    assert bundled == {"lspd-s", "okdhp-s", "ldcrn-s"}
    assert all(rows[name]["metrics"]["lspet val"]["pck@0.2"] > 0.5 for name in bundled)
    assert rows["lspd-m"]["macs"] > rows["lspd-s"]["macs"] > rows["tiny"]["macs"] > 0
    assert (rows["okdhp-hg4"]["params"], rows["okdhp-hg4"]["macs"]) == (13_018_816, 15_357_444_096)


@pytest.mark.slow
def test_students_lists_all_presets(cli: "Cli") -> None:
    rows = {row["name"]: row for row in cli("students", "--json").json}
    assert rows.keys() >= PRESETS.keys()
    assert rows["ldcrn-coco"]["params"] == 7_894_897


def test_doctor_speaks_json(cli: "Cli") -> None:
    done = cli("doctor", "--json")
    assert done.code in (0, 5)
    assert set(done.json["formats"]) == {"coreml", "tflite", "executorch"}
    ready = [fields["ready"] for fields in done.json["formats"].values()]
    assert all(ready) == (done.code == 0)
    assert done.json["environment"]["torch"] == metadata.version("torch")


@pytest.mark.usefixtures("few_presets")
def test_tables_are_for_people(cli: "Cli", exported: "Exported") -> None:
    assert "lspd-s" in cli("students").out
    assert "tflite" in cli("doctor").out
    done = cli("verify", exported.folder)
    assert done.code == 0
    assert "tflite w8a8" in done.out
    assert done.out.rstrip().endswith("verdict: pass")


def test_the_jitter_of_an_artifact_is_told_beside_its_students(
    exported: "Exported", people: Path, tmp_path: Path, cli: "Cli"
) -> None:
    student, frames = exported.folder / "colours.safetensors", people / "images"
    done = cli("jitter", student, exported.folder / INT8, frames, "--json")
    assert done.code == 0, done.err
    assert done.json["frames"] == 8
    assert done.json["ratio"] == pytest.approx(1.0, abs=0.05)
    assert done.json["apart"] < 0.1 * done.json["reference"]
    assert "8 frames" in cli("jitter", student, exported.folder / FLOAT, frames).out
    labelled = cli("jitter", student, exported.folder / INT8, people)
    assert (labelled.code, "is a labelled set" in labelled.err) == (2, True)
    for number in range(2):
        shutil.copy(frames / f"{number}.png", tmp_path)
    few = cli("jitter", student, exported.folder / INT8, tmp_path)
    assert (few.code, "2 frames have no acceleration" in few.err) == (2, True)
