"""What a step learns from: labels and offline teachers see the same view."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lspdmobile.errors import BadInputError
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.skeleton import COCO_17, LSP_14
from lspdmobile.student import Student, save_student
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.lessons import Lessons, OfflineTeacher, offline_network
from lspdmobile.train.losses import Targets
from lspdmobile.train.recipes import contract_for
from lspdmobile.train.samples import Samples


def config_of(**offline: Any) -> TrainConfig:
    data = {"train": "a.json", "teacher": "t.json"}
    fields = {"recipe": "lspd", "preset": "tiny", "phases": [{"size": 64, "epochs": 1}], "data": data}
    return TrainConfig.model_validate({**fields, "offline": offline})


def drawn(config: TrainConfig, samples: Samples, tiny: LspdConfig, teacher: Any = None) -> tuple[torch.Tensor, Targets]:
    lessons = Lessons(
        config=config, samples=samples, contract=contract_for(tiny), skeleton=LSP_14, teacher=teacher, device="cpu"
    )
    generator = torch.Generator().manual_seed(11)
    return lessons.draw(np.arange(len(samples)), size=64, generator=generator)


def taught(samples: Samples) -> Samples:
    """A teacher that knows the labels, and is 0.8 sure; joint 3 it does not know."""
    weights = np.full((*samples.weights.shape, 1), 0.8, np.float32)
    weights[:, 3] = 0
    return replace(samples, guesses=np.concatenate((samples.points, weights), axis=2))


def test_a_teacher_that_agrees_gives_the_labels_heatmaps(samples: Samples, tiny_config: LspdConfig) -> None:
    """Whatever the view: turned, and mirrored in half of the pictures."""
    inputs, targets = drawn(config_of(keypoints=0.7), taught(samples), tiny_config)
    assert inputs.shape == (16, 3, 64, 64)
    (offline,) = targets.offline
    assert offline.weight == 0.7
    torch.testing.assert_close(offline.heatmaps, targets.labels.heatmaps)
    # A mirrored joint 3 is the other side's: its place is left and right's exchanged.
    seen = targets.labels.joints > 0
    assert set((seen & (offline.joints == 0)).nonzero()[:, 1].tolist()) == {3, LSP_14.flip[3]}
    known = offline.joints > 0
    assert not (known & ~seen).any()
    assert torch.equal(offline.joints[known], torch.full_like(offline.joints[known], 0.8))


def test_a_teacher_changes_neither_the_view_nor_the_labels(samples: Samples, tiny_config: LspdConfig) -> None:
    alone, _ = drawn(config_of(), samples, tiny_config)
    for config, given in ((config_of(), taught(samples)), (config_of(keypoints=1.0), taught(samples))):
        inputs, targets = drawn(config, given, tiny_config)
        assert torch.equal(inputs, alone)
        assert torch.equal(targets.labels.heatmaps, drawn(config_of(), samples, tiny_config)[1].labels.heatmaps)
        assert len(targets.offline) == (1 if config.offline.keypoints else 0)


def test_figures_without_a_teacher_pull_nothing(samples: Samples, held_out: Samples, tiny_config: LspdConfig) -> None:
    both = taught(samples) + held_out
    assert len(both) == 24
    _, targets = drawn(config_of(keypoints=1.0), both, tiny_config)
    assert not targets.offline[0].joints[16:].any()
    assert targets.offline[0].joints[:16].any()
    assert (samples + held_out).guesses is None


@pytest.fixture
def teacher(tmp_path: Path, tiny_config: LspdConfig) -> Student:
    student = Student(
        name="teacher",
        network=LspdStudent(replace(tiny_config, features=24)).eval(),
        config=replace(tiny_config, features=24),
        contract=contract_for(tiny_config),
        skeleton=LSP_14,
    )
    save_student(student, tmp_path / "teacher.safetensors")
    return student


def test_a_network_teaches_what_it_sees_in_the_same_view(
    teacher: Student, tmp_path: Path, samples: Samples, tiny_config: LspdConfig
) -> None:
    config = config_of(network=str(tmp_path / "teacher.safetensors"), weight=0.4)
    found = offline_network(config, contract_for(tiny_config), LSP_14, "cpu")
    assert found is not None
    assert found.input_size == tiny_config.input_size
    assert not any(p.requires_grad for p in found.network.parameters())
    inputs, targets = drawn(config, samples, tiny_config, replace(found, input_size=(64, 64)))
    (offline,) = targets.offline
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = teacher.network(inputs).float()
    assert offline.weight == 0.4
    assert offline.joints.all()
    torch.testing.assert_close(offline.heatmaps, expected, rtol=0.05, atol=1e-3 * float(expected.abs().max()))


class Bright(nn.Module):
    """A teacher whose joint k is wherever channel k is bright; it remembers what it was shown."""

    shown: torch.Size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, 3, h, w]`` to ``[N, 3, h/4, w/4]``."""
        self.shown = x.shape
        return F.avg_pool2d(x, 4)


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (48, 80)])
def test_a_network_sees_views_at_its_own_size(size: tuple[int, int]) -> None:
    """What it finds comes back in the grid of the network that learns, at the same place of the view."""
    views = torch.zeros(2, 3, 64, 64)
    views[0, 1, 40:48, 8:16] = 1
    views[1, 2, 0:8, 56:64] = 1
    teacher = OfflineTeacher(network=Bright(), input_size=size)

    seen = teacher.heatmaps(views, stride=4)

    assert isinstance(teacher.network, Bright)
    assert teacher.network.shown == (2, 3, *size)
    assert seen.shape == (2, 3, 16, 16)
    assert seen.dtype == torch.float32
    for picture, joint, row, column in ((0, 1, 10.5, 2.5), (1, 2, 0.5, 14.5)):
        found = seen[picture, joint]
        rows, columns = found.sum(1), found.sum(0)
        steps = torch.arange(16.0)
        assert float((rows * steps).sum() / rows.sum()) == pytest.approx(row, abs=0.3)
        assert float((columns * steps).sum() / columns.sum()) == pytest.approx(column, abs=0.3)


def test_a_network_of_other_pictures_or_joints_is_refused(
    teacher: Student, tmp_path: Path, tiny_config: LspdConfig
) -> None:
    config, contract = config_of(network=str(tmp_path / "teacher.safetensors")), contract_for(tiny_config)
    with pytest.raises(BadInputError, match="cannot teach this network: another heatmap_stride"):
        offline_network(config, replace(contract, heatmap_stride=4), LSP_14, "cpu")
    with pytest.raises(BadInputError, match="cannot teach this network: another colour_order, skeleton"):
        offline_network(config, replace(contract, colour_order="bgr"), COCO_17, "cpu")
    larger = replace(contract, input_size=(128, 128))
    assert offline_network(config, larger, LSP_14, "cpu") is not None
    assert teacher.name == "teacher"


def test_a_run_without_offline_network_has_none(tiny_config: LspdConfig) -> None:
    assert offline_network(config_of(), contract_for(tiny_config), LSP_14, "cpu") is None
