"""The training loop, the same for every recipe.

A run can be killed at any moment: the checkpoint is replaced atomically, and every random number is drawn from a
generator seeded by (seed, step), so a resumed run takes the very steps an uninterrupted one would have taken.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import Skeleton
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.depthwise import FastDepthwise
from lspdmobile.train.lessons import Lessons, offline_network
from lspdmobile.train.losses import ramp_up
from lspdmobile.train.recipes import RECIPES, contract_for, network_config
from lspdmobile.train.samples import Samples
from lspdmobile.train.schedule import Schedule
from lspdmobile.train.scores import validate
from lspdmobile.train.state import CHECKPOINT, TrainingState

__all__ = ["CHECKPOINT", "LOG", "StepReport", "train_network"]

LOG: Final = "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Where the run stands.

    Attributes:
        step, total: Steps done and to do.
        epoch: Epoch under way, from 0.
        size: Input size of the phase.
        loss: Smoothed loss.
        pictures_per_second: Since the run was started or resumed, validation left out.
        metrics: Validation figures, on the steps that validated.
    """

    step: int
    total: int
    epoch: int
    size: int
    loss: float
    pictures_per_second: float
    metrics: dict[str, float] | None = None


class _Stopwatch:
    """Pictures per second since the run was started or resumed, less the time left out."""

    def __init__(self) -> None:
        self.started, self.pictures = time.perf_counter(), 0

    def leave_out(self, seconds: float) -> None:
        self.started += seconds

    def rate(self) -> float:
        return self.pictures / max(time.perf_counter() - self.started, 1e-9)


def train_network(
    config: TrainConfig,
    samples: Samples,
    validation: dict[str, Samples],
    skeleton: Skeleton,
    folder: Path,
    *,
    device: str = "cpu",
    init: Path | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    save_every_seconds: float = 90.0,
) -> nn.Module:
    """Train, or resume where ``folder`` holds a checkpoint; gives the averaged (EMA) training network in eval mode.

    Args:
        config: The run.
        samples: Train set in memory.
        validation: Named sets validated on.
        skeleton: Skeleton of the samples.
        folder: Holds ``checkpoint.pt`` and ``log.jsonl``.
        device: ``"cpu"`` or ``"cuda"``.
        init: Checkpoint of an earlier run (its averaged network) or a student to start from; a resumed run ignores it.
        on_step: Called after every step.
        save_every_seconds: How much work a kill may cost.

    Raises:
        BadInputError: The checkpoint in the folder belongs to another run, ``init`` does not fit, the samples do not
            fit the network or are under one batch, or the loss is no longer finite.
    """
    lessons = _lessons(config, samples, skeleton, device)
    schedule = Schedule(config=config, pictures=len(samples))
    state = TrainingState.fresh_or_resumed(config, folder, pictures=len(samples), device=device, init=init)
    watch, last_save = _Stopwatch(), time.perf_counter()
    for index in schedule.batches(state.step):
        _one_step(lessons, schedule, state, index)
        watch.pictures += config.batch_size
        metrics = None
        if schedule.validates(state.step):
            before = time.perf_counter()
            metrics = _validated(lessons, state, validation)
            _log(folder, schedule, state, metrics)
            watch.leave_out(time.perf_counter() - before)
        if time.perf_counter() - last_save > save_every_seconds or state.step == schedule.total:
            state.save(config, folder)
            last_save = time.perf_counter()
        if on_step:
            on_step(_report(schedule, state, watch.rate(), metrics))
    return state.ema.eval()


def _lessons(config: TrainConfig, samples: Samples, skeleton: Skeleton, device: str) -> Lessons:
    network = network_config(config)
    if not network.keypoints == skeleton.count == samples.points.shape[1]:
        message = (
            f"preset {config.preset} has {network.keypoints} keypoints, the labels ({skeleton.name}) {skeleton.count}"
        )
        raise BadInputError(message)
    contract = contract_for(network)
    return Lessons(
        config=config,
        samples=samples,
        contract=contract,
        skeleton=skeleton,
        teacher=offline_network(config, contract, skeleton, device),
        device=device,
    )


def _one_step(lessons: Lessons, schedule: Schedule, state: TrainingState, index: Any) -> None:
    config, device, step = lessons.config, lessons.device, state.step
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    inputs, targets = lessons.draw(index, size=schedule.size_at(step), generator=generator)
    for group in state.optimizer.param_groups:
        group["lr"] = schedule.learning_rate(step)
    with torch.autocast(device, torch.bfloat16), FastDepthwise():
        outputs, averaged = state.network(inputs), None
        if config.distill.teacher == "average" and config.distill.weight > 0:
            with torch.no_grad():
                averaged = state.ema(inputs)
    ramp = ramp_up(step, steps=config.distill.ramp_epochs * schedule.per_epoch)
    loss = RECIPES[config.recipe].loss(outputs, targets, config.distill, ramp=ramp, averaged=averaged)
    value = float(loss.detach())
    if not math.isfinite(value):
        message = f"the loss is {value} at step {step}: training diverged; lower learning_rate and start afresh"
        raise BadInputError(message)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    state.advance(value, config.ema)


def _validated(lessons: Lessons, state: TrainingState, validation: dict[str, Samples]) -> dict[str, float]:
    recipe = RECIPES[lessons.config.recipe]
    return {
        f"{name} {key}": value
        for name, held in validation.items()
        for key, value in validate(
            state.ema, recipe, held, lessons.contract, lessons.skeleton, device=lessons.device
        ).items()
    }


def _report(schedule: Schedule, state: TrainingState, rate: float, metrics: dict[str, float] | None) -> StepReport:
    return StepReport(
        step=state.step,
        total=schedule.total,
        epoch=(state.step - 1) // schedule.per_epoch,
        size=schedule.size_at(state.step - 1),
        loss=state.smooth,
        pictures_per_second=rate,
        metrics=metrics,
    )


def _log(folder: Path, schedule: Schedule, state: TrainingState, metrics: dict[str, float]) -> None:
    entry = {"step": state.step, "epoch": state.step / schedule.per_epoch, "loss": state.smooth, **metrics}
    with (folder / LOG).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({k: round(v, 5) for k, v in entry.items()}) + "\n")
