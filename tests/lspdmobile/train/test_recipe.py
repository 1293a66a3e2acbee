"""The recipe: it learns, and a killed run goes on to the very weights an uninterrupted one gives."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lspdmobile.errors import BadInputError
from lspdmobile.networks.lspd import LspdChain, LspdConfig, LspdStudent
from lspdmobile.skeleton import COCO_17, LSP_14
from lspdmobile.student import Student, load_checkpoint, save_student
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.loop import CHECKPOINT, LOG, StepReport, train_network
from lspdmobile.train.recipes import RECIPES, contract_for, network_config
from lspdmobile.train.samples import Samples
from lspdmobile.train.scores import validate

pytestmark = pytest.mark.usefixtures("one_thread", "tiny_preset")

STEPS = 12
CALM = {"rotation_sd": 10, "scale_sd": 0.05, "shift_sd": 0.01, "flip": 0.0, "colour": 0.0, "erase": 0.1}


def config_of(**fields: Any) -> TrainConfig:
    """Give two phases of two and one epochs; 16 pictures make 4 steps of 4 an epoch."""
    default: dict[str, Any] = {
        "recipe": "lspd",
        "preset": "tiny",
        "batch_size": 4,
        "learning_rate": 4e-3,
        "phases": [{"size": 32, "epochs": 2}, {"size": 64, "epochs": 1}],
        "data": {},
        "augment": CALM,
        "distill": {"ramp_epochs": 1},
        "validate_every": 2,
    }
    return TrainConfig.model_validate({**default, **fields})


class KilledError(Exception):
    """Stands for a kill between two steps."""


def noting(steps: list[int]) -> Callable[[StepReport], None]:
    return lambda report: steps.append(report.step)


def killed_after(steps: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.step == steps:
            raise KilledError

    return on_step


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_the_loss_falls_and_the_student_learns(many_samples: Samples, held_out: Samples, folder: Path) -> None:
    losses: list[float] = []
    metrics: list[dict[str, float]] = []

    def on_step(report: StepReport) -> None:
        losses.append(report.loss)
        if report.metrics:
            metrics.append(report.metrics)

    config = config_of(batch_size=8, phases=[{"size": 64, "epochs": 6}], validate_every=1, ema=0.9)
    chain = train_network(config, many_samples, {"held": held_out}, LSP_14, folder, on_step=on_step)
    assert len(losses) == 48
    assert losses[-1] < 0.8 * losses[0]
    assert losses[-1] < losses[24] < losses[0]
    assert metrics[-1]["held pck@0.2"] > metrics[0]["held pck@0.2"]
    assert not chain.training
    contract = contract_for(network_config(config))
    assert metrics[-1]["held pck@0.2"] == validate(chain, RECIPES["lspd"], held_out, contract, LSP_14)["pck@0.2"]


def test_a_killed_and_resumed_run_gives_the_same_weights_bit_for_bit(samples: Samples, tmp_path: Path) -> None:
    """Killed on an epoch's border, inside one after the phase changed, and one step before the end."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    uninterrupted = train_network(config_of(), samples, {}, LSP_14, whole)
    for killed_at in (4, 9, 11):
        killed.mkdir()
        started(samples, killed, steps=killed_at)
        steps: list[int] = []
        torch.manual_seed(123)
        resumed = train_network(config_of(), samples, {}, LSP_14, killed, on_step=noting(steps))
        assert steps == list(range(killed_at + 1, STEPS + 1))
        assert same(uninterrupted, resumed)
        kept = [load_checkpoint(place / CHECKPOINT, device="cpu") for place in (whole, killed)]
        assert kept[0]["smooth"] == kept[1]["smooth"]
        shutil.rmtree(killed)


def test_a_run_killed_before_its_first_checkpoint_starts_afresh(samples: Samples, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(KilledError):
        train_network(config_of(), samples, {}, LSP_14, folder, on_step=killed_after(2))
    assert not (folder / CHECKPOINT).exists()
    (tmp_path / "whole").mkdir()
    assert same(
        train_network(config_of(), samples, {}, LSP_14, folder),
        train_network(config_of(), samples, {}, LSP_14, tmp_path / "whole"),
    )


def test_a_finished_run_is_not_trained_again(samples: Samples, folder: Path) -> None:
    config, steps = config_of(phases=[{"size": 32, "epochs": 1}]), list[int]()
    chain = train_network(config, samples, {}, LSP_14, folder)
    before = (folder / CHECKPOINT).read_bytes()
    again = train_network(config, samples, {}, LSP_14, folder, on_step=noting(steps))
    assert steps == []
    assert same(chain, again)
    assert (folder / CHECKPOINT).read_bytes() == before


def test_another_seed_gives_another_run(samples: Samples, tmp_path: Path) -> None:
    zero, one = tmp_path / "0", tmp_path / "1"
    for place in (zero, one):
        place.mkdir()
    chain = train_network(config_of(seed=0), samples, {}, LSP_14, zero)
    assert not same(chain, train_network(config_of(seed=1), samples, {}, LSP_14, one))


def started(samples: Samples, folder: Path, steps: int = 2, **options: Any) -> None:
    """Leave a checkpoint after some steps."""
    options["on_step"] = killed_after(steps)
    with pytest.raises(KilledError):
        train_network(config_of(), samples, {}, LSP_14, folder, save_every_seconds=0, **options)


def refusal(config: TrainConfig, samples: Samples, folder: Path, init: Path | None = None) -> str:
    with pytest.raises(BadInputError) as caught:
        train_network(config, samples, {}, LSP_14, folder, init=init)
    return str(caught.value)


def test_a_checkpoint_of_another_configuration_is_refused_and_kept(samples: Samples, folder: Path) -> None:
    started(samples, folder)
    before = (folder / CHECKPOINT).read_bytes()
    message = refusal(config_of(learning_rate=1e-3), samples, folder)
    assert "belongs to another training configuration" in message
    assert (folder / CHECKPOINT).read_bytes() == before


def test_a_checkpoint_of_another_train_set_is_refused(samples: Samples, held_out: Samples, folder: Path) -> None:
    started(samples, folder)
    assert "trained on 16 pictures, now there are 24" in refusal(config_of(), samples + held_out, folder)


def test_a_damaged_checkpoint_is_refused(samples: Samples, folder: Path) -> None:
    started(samples, folder)
    file = folder / CHECKPOINT
    saved = load_checkpoint(file, device="cpu")
    for key in ("chain", "ema", "optimizer", "step"):
        torch.save({k: v for k, v in saved.items() if k != key}, file)
        assert f"KeyError: '{key}'" in refusal(config_of(), samples, folder)
    file.write_bytes(file.read_bytes()[:1000])
    assert "not a readable training checkpoint" in refusal(config_of(), samples, folder)
    torch.save({"weights": 3}, file)
    assert "belongs to another training configuration" in refusal(config_of(), samples, folder)


def after_one_step(samples: Samples, folder: Path, init: Path) -> dict[str, torch.Tensor]:
    """Weights of the chain that is trained after one step with a learning rate near zero."""
    folder.mkdir()
    with pytest.raises(KilledError):
        train_network(
            config_of(learning_rate=1e-12, weight_decay=0.0),
            samples,
            {},
            LSP_14,
            folder,
            init=init,
            on_step=killed_after(1),
            save_every_seconds=0,
        )
    chain: dict[str, torch.Tensor] = load_checkpoint(folder / CHECKPOINT, device="cpu")["chain"]
    return {k: v for k, v in chain.items() if k.endswith("weight")}


def test_a_run_can_start_from_an_earlier_runs_average(samples: Samples, tmp_path: Path, folder: Path) -> None:
    started(samples, folder, steps=6)
    average = load_checkpoint(folder / CHECKPOINT, device="cpu")["ema"]
    for name, tensor in after_one_step(samples, tmp_path / "next", folder / CHECKPOINT).items():
        torch.testing.assert_close(tensor, average[name], rtol=0, atol=1e-9)


def test_a_run_can_start_from_a_student_with_fresh_later_stages(
    samples: Samples, tmp_path: Path, tiny_config: LspdConfig
) -> None:
    torch.manual_seed(77)
    network = LspdStudent(tiny_config).eval()
    student = Student(
        name="tiny", network=network, config=tiny_config, contract=contract_for(tiny_config), skeleton=LSP_14
    )
    save_student(student, tmp_path / "tiny.safetensors")
    found = after_one_step(samples, tmp_path / "next", tmp_path / "tiny.safetensors")
    torch.manual_seed(config_of().seed)
    fresh = LspdChain(tiny_config).state_dict()
    for name, tensor in found.items():
        in_student = name.startswith("student.")
        expected = network.state_dict()[name.removeprefix("student.")] if in_student else fresh[name]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-9)


def test_a_resumed_run_ignores_where_it_is_told_to_start(samples: Samples, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        place.mkdir()
        started(samples, place)
    resumed = train_network(config_of(), samples, {}, LSP_14, second, init=tmp_path / "gone.pt")
    assert same(train_network(config_of(), samples, {}, LSP_14, first), resumed)


def test_a_start_that_does_not_fit_is_refused(
    samples: Samples, tmp_path: Path, folder: Path, tiny_config: LspdConfig
) -> None:
    wide = LspdConfig.from_dict({**tiny_config.to_dict(), "features": 24})
    student = Student(
        name="wide", network=LspdStudent(wide).eval(), config=wide, contract=contract_for(wide), skeleton=LSP_14
    )
    save_student(student, tmp_path / "wide.safetensors")
    message = refusal(config_of(), samples, folder, tmp_path / "wide.safetensors")
    assert "does not fit the network of this configuration" in message
    assert "size mismatch" in message
    torch.save({"ema": LspdChain(wide).state_dict()}, tmp_path / "wide.pt")
    assert "does not fit" in refusal(config_of(), samples, folder, tmp_path / "wide.pt")
    torch.save({"weights": {}}, tmp_path / "other.pt")
    assert "KeyError: 'ema'" in refusal(config_of(), samples, folder, tmp_path / "other.pt")
    assert "not a readable training checkpoint" in refusal(config_of(), samples, folder, tmp_path / "gone.pt")
    assert not (folder / CHECKPOINT).exists()


def test_fewer_pictures_than_a_batch_are_refused(held_out: Samples, folder: Path) -> None:
    assert "8 training pictures are fewer than one batch of 16" in refusal(config_of(batch_size=16), held_out, folder)


def test_labels_of_another_skeleton_are_refused(samples: Samples, folder: Path) -> None:
    with pytest.raises(BadInputError, match=r"tiny has 14 keypoints, the labels \(coco-17\) 17"):
        train_network(config_of(), samples, {}, COCO_17, folder)


def test_a_loss_that_is_no_number_stops_the_run(samples: Samples, folder: Path) -> None:
    points = samples.points.copy()
    points[:, 0, 0] = np.nan
    broken = Samples(pixels=samples.pixels, points=points, weights=samples.weights, lengths=samples.lengths)
    assert "the loss is nan at step 0" in refusal(config_of(), broken, folder)
    assert not (folder / CHECKPOINT).exists()


def test_reports_and_log_say_where_the_run_stands(samples: Samples, held_out: Samples, folder: Path) -> None:
    reports: list[StepReport] = []
    train_network(config_of(), samples, {"held": held_out}, LSP_14, folder, on_step=reports.append)
    assert [r.step for r in reports] == list(range(1, STEPS + 1))
    assert [r.epoch for r in reports] == [0] * 4 + [1] * 4 + [2] * 4
    assert [r.size for r in reports] == [32] * 8 + [64] * 4
    assert {r.total for r in reports} == {STEPS}
    assert all(r.pictures_per_second > 0 for r in reports)
    # Every second epoch, and the last.
    assert [r.step for r in reports if r.metrics] == [8, 12]
    lines = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    assert [(line["step"], line["epoch"]) for line in lines] == [(8, 2), (12, 3)]
    metrics = reports[-1].metrics
    assert metrics is not None
    assert set(metrics) == {"held pck@0.2", "held pckh@0.5", "held teacher pck@0.2"}
    assert lines[-1]["held pck@0.2"] == round(metrics["held pck@0.2"], 5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [0.04, 0.36, 0.68, *(0.5 * (1 + math.cos(math.pi * (i / 12 - 0.25) / 0.75)) for i in range(3, 12))]),
        ("step", [0.04, 0.36, 0.68, *[1.0] * 6, *[0.1] * 2, 0.01]),
    ],
)
def test_the_learning_rate_warms_up_and_falls(
    samples: Samples, folder: Path, schedule: str, expected: list[float]
) -> None:
    """Read from the checkpoint after each of 12 steps, 3 of them warm-up; 70 % is passed by step 9, 90 % by step 11."""
    config = config_of(schedule=schedule, warmup=0.25)
    rates: list[float] = []

    def on_step(_: StepReport) -> None:
        groups = load_checkpoint(folder / CHECKPOINT, device="cpu")["optimizer"]["param_groups"]
        assert groups[0]["lr"] == groups[1]["lr"]
        assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (config.weight_decay, 0)
        rates.append(groups[0]["lr"] / config.learning_rate)

    train_network(config, samples, {}, LSP_14, folder, on_step=on_step, save_every_seconds=0)
    assert rates == pytest.approx(expected)
