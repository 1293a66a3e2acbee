"""LSPD's recipe: the whole chain trained end to end, the first stage pulled to the last, the first stage shipped.

A run can be killed at any moment: the checkpoint is replaced atomically, and every random number is drawn from a
generator seeded by (seed, step), so a resumed run takes the very steps an uninterrupted one would have taken.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from lspdmobile.errors import BadInputError
from lspdmobile.networks.lspd import LspdChain, LspdConfig
from lspdmobile.networks.presets import PRESETS, preset
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import Skeleton
from lspdmobile.train.augment import augment, gaussian_heatmaps
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.losses import chain_loss, ramp_up
from lspdmobile.train.samples import MARGIN, Samples
from lspdmobile.train.scores import validate
from lspdmobile.train.state import CHECKPOINT, TrainingState

__all__ = ["CHECKPOINT", "LOG", "StepReport", "chain_config", "contract_for", "train_chain", "validate"]

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


def chain_config(config: TrainConfig) -> LspdConfig:
    """Give the network configuration the run trains: the preset, with what the run replaces of it.

    Raises:
        BadInputError: No preset has that name, or a replaced field is unknown or has a wrong value (all are listed).
    """
    base = preset(config.preset)
    if not isinstance(base, LspdConfig):
        message = f"preset {config.preset} is no chain of stages: the recipe 'lspd' trains the presets {_trained()}"
        raise BadInputError(message)
    known = asdict(base)
    faults = [f"{name}: no such field" for name in config.network if name not in known]
    try:
        network = TypeAdapter(LspdConfig).validate_python({**known, **config.network})
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, e['loc'])) or 'together'}: {e['msg']}" for e in error.errors()]
    if faults:
        message = f"[network]: {'; '.join(faults)}"
        raise BadInputError(message)
    return replace(network, stages=config.stages or network.stages)


def _trained() -> str:
    return ", ".join(name for name, found in PRESETS.items() if isinstance(found, LspdConfig))


def contract_for(network: LspdConfig) -> PreprocessContract:
    """Give the preprocess contract that pictures of this network follow."""
    return PreprocessContract(input_size=network.input_size, heatmap_stride=network.heatmap_stride)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The schedule in steps."""

    per_epoch: int
    sizes: tuple[int, ...]

    @property
    def total(self) -> int:
        return self.per_epoch * len(self.sizes)

    def size_at(self, step: int) -> int:
        return self.sizes[step // self.per_epoch]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What stays the same over a run."""

    config: TrainConfig
    plan: _Plan
    samples: Samples
    contract: PreprocessContract
    skeleton: Skeleton
    device: str


class _Stopwatch:
    """Pictures per second since the run was started or resumed, less the time left out."""

    def __init__(self) -> None:
        self.started, self.pictures = time.perf_counter(), 0

    def leave_out(self, seconds: float) -> None:
        self.started += seconds

    def rate(self) -> float:
        return self.pictures / max(time.perf_counter() - self.started, 1e-9)


def train_chain(
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
) -> LspdChain:
    """Train, or resume where ``folder`` holds a checkpoint; gives the averaged (EMA) chain in eval mode.

    Args:
        config: The run.
        samples: Train set in memory.
        validation: Named sets validated on.
        skeleton: Skeleton of the samples.
        folder: Holds ``checkpoint.pt`` and ``log.jsonl``.
        device: ``"cpu"`` or ``"cuda"``.
        init: Checkpoint of an earlier run (its averaged chain) or a student to start from; a resumed run ignores it.
        on_step: Called after every step.
        save_every_seconds: How much work a kill may cost.

    Raises:
        BadInputError: The checkpoint in the folder belongs to another run, ``init`` does not fit, the samples do not
            fit the network or are under one batch, or the loss is no longer finite.
    """
    run = _prepared(config, samples, skeleton, device)
    state = TrainingState.fresh_or_resumed(
        config, chain_config(config), folder, pictures=len(samples), device=device, init=init
    )
    watch, last_save = _Stopwatch(), time.perf_counter()
    for batch_index in _batches(config, run.plan, len(samples), state.step):
        _one_step(run, state, batch_index)
        watch.pictures += config.batch_size
        metrics = None
        if _epoch_to_validate(config, run.plan, state.step):
            before = time.perf_counter()
            metrics = _validated(run, state, validation)
            _log(folder, run.plan, state, metrics)
            watch.leave_out(time.perf_counter() - before)
        if time.perf_counter() - last_save > save_every_seconds or state.step == run.plan.total:
            state.save(config, folder)
            last_save = time.perf_counter()
        if on_step:
            on_step(_report(run.plan, state, watch.rate(), metrics))
    return state.ema.eval()


def _prepared(config: TrainConfig, samples: Samples, skeleton: Skeleton, device: str) -> _Run:
    network = chain_config(config)
    if not network.keypoints == skeleton.count == samples.points.shape[1]:
        message = (
            f"preset {config.preset} has {network.keypoints} keypoints, the labels ({skeleton.name}) {skeleton.count}"
        )
        raise BadInputError(message)
    sizes = tuple(p.size for p in config.phases for _ in range(p.epochs))
    plan = _Plan(per_epoch=len(samples) // config.batch_size, sizes=sizes)
    if plan.per_epoch == 0:
        message = f"{len(samples)} training pictures are fewer than one batch of {config.batch_size}"
        raise BadInputError(message)
    contract = contract_for(network)
    return _Run(config=config, plan=plan, samples=samples, contract=contract, skeleton=skeleton, device=device)


def _validated(run: _Run, state: TrainingState, validation: dict[str, Samples]) -> dict[str, float]:
    return {
        f"{name} {key}": value
        for name, held in validation.items()
        for key, value in validate(state.ema, held, run.contract, run.skeleton, device=run.device).items()
    }


def _report(plan: _Plan, state: TrainingState, rate: float, metrics: dict[str, float] | None) -> StepReport:
    epoch = (state.step - 1) // plan.per_epoch
    return StepReport(
        step=state.step,
        total=plan.total,
        epoch=epoch,
        size=plan.sizes[epoch],
        loss=state.smooth,
        pictures_per_second=rate,
        metrics=metrics,
    )


def _batches(config: TrainConfig, plan: _Plan, count: int, done: int) -> Iterator[Any]:
    """Give the sample indices of every step not yet done; each epoch's order depends on (seed, epoch) alone."""
    for epoch in range(done // plan.per_epoch, len(plan.sizes)):
        order = np.random.default_rng((config.seed, epoch)).permutation(count)
        first = done - epoch * plan.per_epoch if epoch == done // plan.per_epoch else 0
        for i in range(first, plan.per_epoch):
            yield order[i * config.batch_size : (i + 1) * config.batch_size]


def _one_step(run: _Run, state: TrainingState, index: Any) -> None:
    config, plan, samples, device = run.config, run.plan, run.samples, run.device
    size, stride = plan.size_at(state.step), run.contract.heatmap_stride
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + state.step)
    inputs, points, weights = augment(
        torch.from_numpy(samples.pixels[index]).to(device),
        torch.from_numpy(samples.points[index]).to(device),
        torch.from_numpy(samples.weights[index]).to(device),
        size=size,
        contract=run.contract,
        skeleton=run.skeleton,
        config=config.augment,
        generator=generator,
        margin=MARGIN,
    )
    target = gaussian_heatmaps(points, size=(size // stride, size // stride), stride=stride, sigma=config.sigma)
    for group in state.optimizer.param_groups:
        group["lr"] = config.learning_rate * _rate(config, plan, state.step)
    with torch.autocast(device, torch.bfloat16):
        stages = state.chain(inputs.contiguous(memory_format=torch.channels_last))
    ramp = ramp_up(state.step, steps=config.distill.ramp_epochs * plan.per_epoch)
    loss = chain_loss(stages, target, weights, config.distill, ramp=ramp)
    value = float(loss.detach())
    if not math.isfinite(value):
        message = f"the loss is {value} at step {state.step}: training diverged; lower learning_rate and start afresh"
        raise BadInputError(message)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    state.advance(value, config.ema)


def _rate(config: TrainConfig, plan: _Plan, step: int) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to zero or steps of 1/10 at 70 % and 90 %."""
    done = step / plan.total
    if done < config.warmup:
        return 0.04 + 0.96 * done / config.warmup
    if config.schedule == "step":
        return 1.0 if done < 0.7 else 0.1 if done < 0.9 else 0.01
    return 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))


def _epoch_to_validate(config: TrainConfig, plan: _Plan, step: int) -> bool:
    epoch, rest = divmod(step, plan.per_epoch)
    return rest == 0 and (epoch % config.validate_every == 0 or step == plan.total)


def _log(folder: Path, plan: _Plan, state: TrainingState, metrics: dict[str, float]) -> None:
    entry = {"step": state.step, "epoch": state.step / plan.per_epoch, "loss": state.smooth, **metrics}
    with (folder / LOG).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({k: round(v, 5) for k, v in entry.items()}) + "\n")
