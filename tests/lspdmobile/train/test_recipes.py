"""Every recipe through the one loop: killed runs go on bit for bit, and what ships is what was trained."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lspdmobile.networks.feature_aggregation import BranchOutputs
from lspdmobile.networks.ldcrn import LdcrnConfig
from lspdmobile.networks.okdhp import OkdhpConfig, OkdhpMobilePoseConfig
from lspdmobile.networks.presets import PRESETS
from lspdmobile.skeleton import LSP_14
from lspdmobile.student import Student, load_checkpoint, load_student, save_student
from lspdmobile.train import okdhp
from lspdmobile.train.augment import gaussian_heatmaps
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.job import run_job
from lspdmobile.train.loop import CHECKPOINT, StepReport, train_network
from lspdmobile.train.recipes import RECIPES, contract_for, network_config
from lspdmobile.train.samples import MARGIN, STORED_SIZE, Samples
from lspdmobile.train.scores import best_candidate, validate

SIZE: dict[str, Any] = {"keypoints": 14, "input_size": (64, 64)}
TINY: dict[str, Any] = {
    "tiny-light": OkdhpMobilePoseConfig(
        **SIZE, stem=8, channels=(8, 8, 12, 12), blocks=(1, 1, 1, 1), features=12, expansion=2, decoders=2
    ),
    "tiny-hourglass": OkdhpConfig(**SIZE, stacks=2, shared=1, helpers=(2,), channels=16),
    "tiny-unbalanced": OkdhpConfig(**SIZE, stacks=1, shared=0, helpers=(2,), channels=16),
    "tiny-ldcrn": LdcrnConfig(
        **SIZE, stem=8, widths=(8, 8, 12, 12), first_modules=1, modules=(1, 1, 1), layers=1, growth=(4, 4, 4, 4),
        bottleneck=2, light=True,
    ),
}  # fmt: skip
RELEASED = {"loss": "okdhp-kl", "weight": 2.0, "joints": "labelled", "ramp_epochs": 1}
AVERAGE = {"weight": 1.0, "keep_labels": True, "teacher": "average", "ramp_epochs": 1}
RUNS: dict[str, dict[str, Any]] = {
    "chain taught by its average": {"recipe": "lspd", "preset": "tiny", "distill": AVERAGE},
    "okdhp as released": {"recipe": "okdhp", "preset": "tiny-light", "distill": RELEASED},
    "okdhp hourglass": {"recipe": "okdhp", "preset": "tiny-hourglass", "distill": RELEASED},
    "okdhp alone": {"recipe": "okdhp", "preset": "tiny-light", "network": {"decoders": 1}},
    "ldcrn with Muon, taught by its average": {
        "recipe": "ldcrn", "preset": "tiny-ldcrn", "optimizer": "muon", "distill": AVERAGE,
    },
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread", "tiny_preset")


@pytest.fixture(autouse=True)
def _tiny_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(PRESETS, dict)
    for name, config in TINY.items():
        monkeypatch.setitem(PRESETS, name, config)


def config_of(**fields: Any) -> TrainConfig:
    default = {"batch_size": 4, "phases": [{"size": 64, "epochs": 1}], "data": {}, "learning_rate": 2e-3}
    return TrainConfig.model_validate({**default, **fields})


class KilledError(Exception):
    """Stands for a kill between two steps."""


def killed_after(steps: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.step == steps:
            raise KilledError

    return on_step


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_killed_and_resumed_run_gives_the_same_weights(run: dict[str, Any], samples: Samples, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    config = config_of(**run)
    uninterrupted = train_network(config, samples, {}, LSP_14, whole)
    with pytest.raises(KilledError):
        train_network(config, samples, {}, LSP_14, killed, on_step=killed_after(2), save_every_seconds=0)
    assert same(uninterrupted, train_network(config, samples, {}, LSP_14, killed))


def test_a_checkpoint_of_a_version_without_later_fields_is_taken_up(samples: Samples, folder: Path) -> None:
    """Fields that a version did not know have their defaults; a field at another value is another run."""
    config = config_of(recipe="lspd", preset="tiny")
    with pytest.raises(KilledError):
        train_network(config, samples, {}, LSP_14, folder, on_step=killed_after(2), save_every_seconds=0)
    file = folder / CHECKPOINT
    saved = load_checkpoint(file, device="cpu")
    fields = json.loads(saved["config"])
    del fields["offline"], fields["data"]["labels"], fields["data"]["train_pictures"]
    for new in ("keep_labels", "teacher", "joints", "temperature", "ensemble_weight"):
        del fields["distill"][new]
    torch.save({**saved, "config": json.dumps(fields)}, file)
    steps: list[int] = []
    train_network(config, samples, {}, LSP_14, folder, on_step=lambda report: steps.append(report.step))
    assert steps == [3, 4]


def test_branches_learn(many_samples: Samples, held_out: Samples, folder: Path) -> None:
    calm = {"rotation_sd": 10, "scale_sd": 0.05, "shift_sd": 0.01, "flip": 0.0, "colour": 0.0, "erase": 0.1}
    config = config_of(
        recipe="okdhp", preset="tiny-light", distill=RELEASED, batch_size=8, phases=[{"size": 64, "epochs": 10}],
        learning_rate=1e-2, augment=calm, validate_every=1, ema=0.9, sigma=2.0,
    )  # fmt: skip
    found: list[dict[str, float]] = []
    train_network(
        config, many_samples, {"held": held_out}, LSP_14, folder,
        on_step=lambda report: found.append(report.metrics) if report.metrics else None,
    )  # fmt: skip
    assert set(found[-1]) == {"held pck@0.2", "held pckh@0.5", "held teacher pck@0.2"}
    assert found[-1]["held pck@0.2"] > found[0]["held pck@0.2"] + 0.05


@pytest.mark.parametrize(
    ("recipe", "name", "architecture"),
    [
        ("okdhp", "tiny-light", "okdhp-mobile"),
        ("okdhp", "tiny-hourglass", "okdhp"),
        ("okdhp", "tiny-unbalanced", "okdhp"),
        ("ldcrn", "tiny-ldcrn", "ldcrn"),
    ],
)
def test_what_ships_is_loaded_as_its_architecture(recipe: str, name: str, architecture: str, tmp_path: Path) -> None:
    config = config_of(recipe=recipe, preset=name, batch_size=2, data={"rendered": 2, "rendered_val": 2})
    trained = run_job(
        config, data=None, folder=tmp_path, device="cpu", progress=lambda *_: None, on_step=lambda _: None
    )
    student = load_student(str(trained.path))
    assert student.architecture == architecture
    assert student.config == TINY[name]
    branch = student.provenance["branch"]
    training = RECIPES[config.recipe].training_network(network_config(config)).eval()
    training.load_state_dict(load_checkpoint(tmp_path / CHECKPOINT, device="cpu")["ema"])
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = RECIPES[config.recipe].candidates(training(pictures))[branch]
        assert torch.equal(student.network(pictures), expected)
    assert set(student.metrics["rendered"]) >= {"pck@0.2", "pckh@0.5"}
    assert ("teacher pck@0.2" in student.metrics["rendered"]) == (recipe == "okdhp")


class _Known(nn.Module):
    """Branches whose keypoints are so many crop pixels off."""

    def __init__(self, samples: Samples, offsets: list[float]) -> None:
        super().__init__()
        self.points, self.offsets = torch.from_numpy(samples.points), offsets

    def forward(self, pictures: Tensor) -> BranchOutputs:
        edge = (STORED_SIZE - STORED_SIZE / MARGIN) / 2
        maps = [
            gaussian_heatmaps(
                (self.points + off - edge) * (64 * MARGIN / STORED_SIZE), size=(16, 16), stride=4, sigma=1
            )
            for off in self.offsets
        ]
        found = [m[: len(pictures)] for m in maps]
        return BranchOutputs(shared=(), branches=tuple((m,) for m in found), ensemble=found[0])


def test_the_branch_that_scores_best_on_train_pictures_ships(held_out: Samples) -> None:
    contract = contract_for(TINY["tiny-light"])
    central = replace(held_out, points=(104 + 0.5 * (held_out.points - 104)).astype(np.float32))
    for offsets, best in (([30, 12, 0, 9], 2), ([0, 0, 5], 0), ([40], 0)):
        network = _Known(central, [float(off) for off in offsets])
        assert best_candidate(network, okdhp, central, contract, LSP_14) == best
    network = _Known(central, [80.0, 0.0])
    scores = [validate(network, okdhp, central, contract, LSP_14, candidate=i)["pck@0.2"] for i in (0, 1)]
    assert scores[1] == 1.0
    assert scores[0] < 0.5


@pytest.mark.parametrize("name", ["tiny-light", "tiny-hourglass"])
def test_a_student_starts_the_trunk_and_the_first_branch(name: str, samples: Samples, tmp_path: Path) -> None:
    torch.manual_seed(77)
    config = TINY[name]
    student = Student(
        name="start",
        network=okdhp.deployed(okdhp.training_network(config), 1),
        config=config,
        contract=contract_for(config),
        skeleton=LSP_14,
    )
    save_student(student, tmp_path / "start.safetensors")
    run = config_of(recipe="okdhp", preset=name, learning_rate=1e-12, weight_decay=0.0)
    with pytest.raises(KilledError):
        train_network(
            run, samples, {}, LSP_14, tmp_path, init=tmp_path / "start.safetensors", on_step=killed_after(1),
            save_every_seconds=0,
        )  # fmt: skip
    trained = okdhp.training_network(config)
    trained.load_state_dict(load_checkpoint(tmp_path / CHECKPOINT, device="cpu")["chain"])
    weights = student.network.state_dict()
    first, second = (okdhp.deployed(trained, branch).state_dict() for branch in (0, 1))
    learned = [k for k in weights if k.endswith("weight")]
    for key in learned:
        torch.testing.assert_close(first[key], weights[key], rtol=0, atol=1e-9)
    assert not all(torch.allclose(second[key], weights[key]) for key in learned)
