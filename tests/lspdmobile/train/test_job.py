"""A job: data found, a student trained, scored and saved with where it came from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lspdmobile.data.render import write_rendered_set
from lspdmobile.environment import versions
from lspdmobile.errors import BadInputError, EnvironmentLacksError
from lspdmobile.skeleton import COCO_17
from lspdmobile.student import load_student
from lspdmobile.train.config import OfflineConfig, TrainConfig
from lspdmobile.train.job import Trained, run_job
from lspdmobile.train.loop import StepReport
from lspdmobile.train.state import CHECKPOINT

pytestmark = pytest.mark.usefixtures("one_thread", "tiny_preset")

LABELS = "annotations/person_keypoints.json"


def config_of(**data: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {"recipe": "lspd", "preset": "tiny", "batch_size": 2, "phases": [{"size": 32, "epochs": 1}], "data": data}
    )


def run(config: TrainConfig, folder: Path, **options: Any) -> Trained:
    default: dict[str, Any] = {"data": None, "device": "cpu", "progress": _silent, "on_step": _silent_step}
    return run_job(config, folder=folder, **{**default, **options})


def _silent(_name: str, _done: int, _total: int) -> None:
    pass


def _silent_step(_: StepReport) -> None:
    pass


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_rendered_set(tmp_path / "data", count=4, seed=11, size=64)
    return tmp_path / "data"


def test_a_job_leaves_a_student_that_says_how_it_was_made(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    config = config_of(train=LABELS, val=LABELS, rendered=2, rendered_val=2)
    trained = run(config, tmp_path / "run", data=data, progress=lambda name, *_: told.append(name))
    assert trained.path == tmp_path / "run" / "tiny.safetensors"
    student = load_student(str(trained.path))
    assert set(student.metrics) == {"val", "rendered"}
    assert set(student.metrics["val"]) == {"pck@0.2", "pckh@0.5", "teacher pck@0.2"}
    assert student.metrics == trained.student.metrics
    provenance = student.provenance
    assert TrainConfig.model_validate(provenance["recipe"]) == config
    assert (provenance["started_from"], provenance["training_pictures"]) == (None, 6)
    assert provenance["versions"] == versions()
    pictures = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(student.network(pictures), trained.student.network(pictures))
    assert list(dict.fromkeys(told)) == ["read train", "read val", "render 2 figures"]


def test_some_of_the_train_labels_can_be_taken(data: Path, tmp_path: Path) -> None:
    """Evenly spread, so that a part is like the whole; more than there are is all."""
    for wanted, expected in ((2, 2), (3, 3), (4, 4), (9, 4), (0, 4)):
        config = config_of(train=LABELS, train_pictures=wanted)
        trained = run(config, tmp_path / f"run{wanted}", data=data)
        assert trained.student.provenance["training_pictures"] == expected


def test_a_teachers_keypoints_leave_raw_labels_as_they_are(data: Path, tmp_path: Path) -> None:
    """The same steps as without a teacher where its keypoints have no weight, and other steps where they have."""
    coco = json.loads((data / LABELS).read_text(encoding="utf-8"))
    found = [{"image_id": i["id"], "keypoints": [40.0, 30.0, 0.9] * 17} for i in coco["images"]]
    content = {"keypoint_names": list(COCO_17.keypoints), "results": found}
    (data / "teacher.json").write_text(json.dumps(content), encoding="utf-8")
    taught = {"train": LABELS, "teacher": "teacher.json", "labels": "raw"}
    plain = run(config_of(train=LABELS), tmp_path / "plain", data=data).student.network.state_dict()
    config = config_of(**taught)
    raw = run(config, tmp_path / "raw", data=data).student.network.state_dict()
    assert all(torch.equal(plain[k], raw[k]) for k in plain)
    for name, other in (
        ("taught", config.model_copy(update={"offline": OfflineConfig(keypoints=1.0)})),
        ("joined", config_of(**{**taught, "labels": "joined"})),
    ):
        moved = run(other, tmp_path / name, data=data).student.network.state_dict()
        assert not all(torch.equal(plain[k], moved[k]) for k in plain)


def test_an_offline_teacher_is_named_in_the_students_provenance(tmp_path: Path) -> None:
    first = run(config_of(rendered=2), tmp_path / "first")
    assert first.student.provenance["offline_teacher_sha256"] is None
    config = config_of(rendered=2).model_copy(update={"offline": OfflineConfig(network=str(first.path))})
    second = run(config, tmp_path / "second")
    assert second.student.provenance["offline_teacher_sha256"] == load_student(str(first.path)).sha256


def test_rendered_figures_are_kept_and_read_again(tmp_path: Path) -> None:
    config, folder = config_of(rendered=2), tmp_path / "run"
    first = run(config, folder)
    cache = folder / "rendered_0_2.npz"
    with np.load(cache) as kept:
        pixels = {**kept}
    (folder / CHECKPOINT).unlink()
    told: list[str] = []
    again = run(config, folder, progress=lambda name, *_: told.append(name))
    assert told == []
    ours, theirs = first.student.network.state_dict(), again.student.network.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert pixels["pixels"].shape == (2, 208, 208, 3)


def test_where_a_run_started_is_kept_for_its_resumption(tmp_path: Path) -> None:
    first = run(config_of(rendered=2), tmp_path / "first")
    checkpoint = tmp_path / "first" / CHECKPOINT
    (tmp_path / "second").mkdir()
    (tmp_path / "first" / "rendered_0_2.npz").rename(tmp_path / "second" / "rendered_0_2.npz")

    second = run(config_of(rendered=2), tmp_path / "second", init=checkpoint)
    origin = second.student.provenance["started_from"]
    assert origin == {"step": 1, "recipe": config_of(rendered=2).model_dump(mode="json")}

    resumed = run(config_of(rendered=2), tmp_path / "second", init=first.path)
    assert resumed.student.provenance["started_from"] == origin

    (tmp_path / "second" / CHECKPOINT).unlink()
    third = run(config_of(rendered=2), tmp_path / "second", init=first.path)
    assert third.student.provenance["started_from"]["sha256"] == load_student(str(first.path)).sha256

    (tmp_path / "second" / CHECKPOINT).unlink()
    assert run(config_of(rendered=2), tmp_path / "second").student.provenance["started_from"] is None


def refusal(config: TrainConfig, folder: Path, **options: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        run(config, folder, **options)
    return str(caught.value)


def test_label_files_need_their_folder(tmp_path: Path) -> None:
    assert "pass --data" in refusal(config_of(train=LABELS), tmp_path / "run")


def test_a_job_needs_something_to_train_on(data: Path, tmp_path: Path) -> None:
    assert "neither label files nor rendered" in refusal(config_of(val=LABELS), tmp_path / "run", data=data)
    assert "neither label files nor rendered" in refusal(config_of(rendered_val=2), tmp_path / "run")


def test_missing_labels_are_named(tmp_path: Path) -> None:
    assert "no such label file" in refusal(config_of(train=LABELS), tmp_path / "run", data=tmp_path)


@pytest.mark.parametrize("mixed", [{"rendered": 2}, {"rendered_val": 2}, {"val": LABELS}])
def test_sets_that_label_different_joints_are_refused_before_anything_is_rendered(
    data: Path, tmp_path: Path, mixed: dict[str, Any]
) -> None:
    coco = json.loads((data / LABELS).read_text(encoding="utf-8"))
    coco["categories"][0]["keypoints"] = list(COCO_17.keypoints)
    for note in coco["annotations"]:
        note["keypoints"] += [1, 1, 2] * 3
    (data / "annotations" / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    told: list[str] = []
    config = config_of(train="annotations/coco.json", **mixed)
    message = refusal(config, tmp_path / "run", data=data, progress=lambda name, *_: told.append(name))
    assert "train follows coco-17" in message
    assert "follows lsp-14" in message
    assert told == []


def test_a_start_that_is_no_checkpoint_is_refused_before_training(tmp_path: Path) -> None:
    torch.save({"ema": {}}, tmp_path / "other.pt")
    assert "not a checkpoint of a training run" in refusal(
        config_of(rendered=2), tmp_path / "run", init=tmp_path / "other.pt"
    )
    assert not list((tmp_path / "run").glob("rendered*"))


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in refusal(config_of(rendered=2), tmp_path / "file" / "run")


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    assert "unknown --device 'tpu'" in refusal(config_of(rendered=2), tmp_path / "run", device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_where_there_is_none_is_an_environment_error(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match="no CUDA device"):
        run(config_of(rendered=2), tmp_path / "run", device="cuda")
