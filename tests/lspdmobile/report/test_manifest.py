"""manifest.json: what apps read, and names that must stay inside the run's folder."""

import json
from pathlib import Path

import pytest

from lspdmobile.artifact import TensorFacts
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.errors import BadInputError
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.report.schema import (
    GoldenEntry,
    Manifest,
    ManifestArtifact,
    SkeletonEntry,
    TensorEntry,
    file_entries,
    read_manifest,
)
from lspdmobile.skeleton import LSP_14

CONTRACT = PreprocessContract(input_size=(192, 192), heatmap_stride=8)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder with two files and a manifest."""
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "input.png").write_bytes(b"picture")
    package = tmp_path / "s_float16.mlpackage"
    package.mkdir()
    (package / "Manifest.json").write_bytes(b"{}")
    artifact = ManifestArtifact(
        file=package.name,
        format=Format.COREML,
        precision=Precision.FP16,
        layout=Layout.NCHW,
        input=TensorEntry.of(TensorFacts(name="image", shape=(1, 3, 192, 192), dtype="float32")),
        output=TensorEntry.of(TensorFacts(name="heatmaps", shape=(1, 14, 24, 24), dtype="float32")),
    )
    Manifest(
        student="lspd-s",
        checkpoint_sha256="cd" * 32,
        contract=CONTRACT.to_dict(),
        skeleton=SkeletonEntry.of(LSP_14),
        decode_rule="dark",
        artifacts=(artifact,),
        golden=GoldenEntry(input="golden/input.png", expected="golden/expected.json"),
        versions={"lspdmobile": "0.1.0", "torch": "2.13.0"},
        seed=0,
        calibration_sha256="11" * 32,
        evaluation_sha256="22" * 32,
        files=file_entries(tmp_path, [package.name, "golden/input.png"]),
    ).write(tmp_path / "manifest.json")
    return tmp_path


def test_contract_and_skeleton_come_back_whole(run_folder: Path) -> None:
    manifest = read_manifest(run_folder / "manifest.json")
    assert manifest.preprocess() == CONTRACT
    assert manifest.skeleton.keypoints == LSP_14.keypoints
    assert manifest.skeleton.flip == LSP_14.flip
    assert manifest.skeleton.limbs == LSP_14.limbs
    assert manifest.artifacts[0].input.shape == (1, 3, 192, 192)


def test_files_are_hashed_and_sorted(run_folder: Path) -> None:
    manifest = read_manifest(run_folder / "manifest.json")
    assert list(manifest.files) == ["golden/input.png", "s_float16.mlpackage"]
    assert manifest.files["golden/input.png"].bytes == 7
    assert file_entries(run_folder, manifest.files) == manifest.files
    (run_folder / "s_float16.mlpackage" / "Manifest.json").write_bytes(b"{ }")
    changed = file_entries(run_folder, manifest.files)
    assert [name for name in changed if changed[name] != manifest.files[name]] == ["s_float16.mlpackage"]


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "..\\x", "C:x", ""])
def test_a_name_outside_the_folder_is_refused(run_folder: Path, name: str) -> None:
    path = run_folder / "manifest.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    for plant in ("files", "artifact", "golden"):
        planted = json.loads(json.dumps(fields))
        if plant == "files":
            planted["files"][name] = {"sha256": "", "bytes": 0}
        elif plant == "artifact":
            planted["artifacts"][0]["file"] = name
        else:
            planted["golden"]["input"] = name
        path.write_text(json.dumps(planted), encoding="utf-8")
        with pytest.raises(BadInputError, match="inside the run's folder"):
            read_manifest(path)


def test_a_contract_of_another_shape_is_refused(run_folder: Path) -> None:
    path = run_folder / "manifest.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["contract"]["gamma"] = 2.2
    path.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(BadInputError, match="preprocess contract"):
        read_manifest(path)
