"""A training run from configuration to shipped student: read, render, train, score, save."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from lspdmobile.data.coco import LabelledSet, read_labelled_set
from lspdmobile.environment import versions
from lspdmobile.errors import BadInputError, EnvironmentLacksError
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14, Skeleton
from lspdmobile.student import Student, load_checkpoint, load_student, save_student
from lspdmobile.train.config import DataConfig, TrainConfig
from lspdmobile.train.loop import StepReport, train_network
from lspdmobile.train.recipes import RECIPES, contract_for, network_config
from lspdmobile.train.samples import Samples, labelled_samples, rendered_samples
from lspdmobile.train.scores import best_candidate, validate
from lspdmobile.train.state import CHECKPOINT, is_student

__all__ = ["Trained", "run_job"]

Progress = Callable[[str, int, int], None]
_RENDERED_VAL_SEED: Final = 500_000
_ORIGIN: Final = "started_from.json"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The student a run made, and the file it was saved to."""

    student: Student
    path: Path


def run_job(
    config: TrainConfig,
    *,
    data: Path | None,
    folder: Path,
    device: str,
    init: Path | None = None,
    progress: Progress,
    on_step: Callable[[StepReport], None],
) -> Trained:
    """Train by a configuration, or go on where the folder's checkpoint stopped.

    Args:
        config: The run.
        data: Folder that its label files are relative to.
        folder: Receives ``checkpoint.pt``, ``log.jsonl`` and ``<preset>.safetensors``.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        init: Checkpoint or student to start from.
        progress: Told how reading and rendering go.
        on_step: Told of every training step.

    Raises:
        BadInputError: The configuration needs data that was not given, data cannot be read, or the folder cannot be
            written.
        EnvironmentLacksError: CUDA was asked for and is absent.
    """
    where = _device(device)
    network, recipe = network_config(config), RECIPES[config.recipe]
    contract = contract_for(network)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        origin = _origin(init, folder)
    except OSError as error:
        message = f"{folder}: cannot be written ({error.strerror or error})"
        raise BadInputError(message) from error
    samples, validation, skeleton = _samples(config, data, contract, folder=folder, progress=progress)
    trained = train_network(config, samples, validation, skeleton, folder, device=where, init=init, on_step=on_step)
    best = best_candidate(trained, recipe, samples, contract, skeleton, device=where)
    metrics = {
        name: _rounded(validate(trained, recipe, held, contract, skeleton, candidate=best, device=where))
        for name, held in validation.items()
    }
    student = Student(
        name=config.preset,
        network=_shipped(recipe.deployed(trained, best)),
        config=network,
        contract=contract,
        skeleton=skeleton,
        provenance=_provenance(config, samples, origin, best),
        metrics=metrics,
    )
    path = folder / f"{config.preset}.safetensors"
    save_student(student, path)
    return Trained(student=student, path=path)


def _device(asked: str) -> str:
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked not in ("cpu", "cuda"):
        message = f"unknown --device {asked!r}: choose cpu, cuda or auto"
        raise BadInputError(message)
    if asked == "cuda" and not torch.cuda.is_available():
        message = "no CUDA device here: install a CUDA build of torch, or use --device cpu"
        raise EnvironmentLacksError(message)
    return asked


def _samples(
    config: TrainConfig, data: Path | None, contract: PreprocessContract, *, folder: Path, progress: Progress
) -> tuple[Samples, dict[str, Samples], Skeleton]:
    wanted = config.data
    labelled, held = _label_files(wanted, data)
    skeleton = _common_skeleton(wanted, labelled, held)
    parts: list[Samples] = []
    validation: dict[str, Samples] = {}
    if labelled is not None and data is not None:
        teacher = data / wanted.teacher if wanted.teacher else None
        some, join = _spread(labelled, wanted.train_pictures), wanted.labels == "joined"
        report = _step(progress, "read train")
        parts.append(labelled_samples(some, contract, teacher=teacher, join=join, report=report))
    if held is not None:
        validation["val"] = labelled_samples(held, contract, report=_step(progress, "read val"))
    if wanted.rendered:
        parts.append(_rendered(folder, 0, wanted.rendered, contract, progress))
    if wanted.rendered_val:
        validation["rendered"] = _rendered(folder, _RENDERED_VAL_SEED, wanted.rendered_val, contract, progress)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total, validation, skeleton


def _spread(labelled: LabelledSet, count: int) -> LabelledSet:
    """Give so many persons, evenly spread over the file; 0 for all."""
    if not 0 < count < len(labelled.persons):
        return labelled
    chosen = np.linspace(0, len(labelled.persons) - 1, count).round().astype(int)
    return replace(labelled, persons=tuple(labelled.persons[i] for i in chosen))


def _label_files(wanted: DataConfig, data: Path | None) -> tuple[LabelledSet | None, LabelledSet | None]:
    """Read the train and the val labels that are named."""
    if not (wanted.train or wanted.rendered):
        message = "the configuration names neither label files nor rendered pictures to train on"
        raise BadInputError(message)
    if data is None:
        if wanted.train or wanted.val:
            message = "this configuration trains on label files: pass --data with the folder they are in"
            raise BadInputError(message)
        return None, None
    return (
        read_labelled_set(data / wanted.train) if wanted.train else None,
        read_labelled_set(data / wanted.val) if wanted.val else None,
    )


def _common_skeleton(wanted: DataConfig, labelled: LabelledSet | None, held: LabelledSet | None) -> Skeleton:
    sources = {name: found.skeleton for name, found in (("train", labelled), ("val", held)) if found is not None}
    if wanted.rendered or wanted.rendered_val:
        sources["rendered"] = LSP_14
    first = next(iter(sources.values()))
    if any(skeleton != first for skeleton in sources.values()):
        follow = ", ".join(f"{name} follows {skeleton.name}" for name, skeleton in sources.items())
        message = f"the data sets label different joints: {follow}; leave the odd one out (rendered = 0, val = '')"
        raise BadInputError(message)
    return first


def _step(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _rendered(folder: Path, first_seed: int, count: int, contract: PreprocessContract, progress: Progress) -> Samples:
    """Render, or read what an earlier start of this run rendered."""
    cache = folder / f"rendered_{first_seed}_{count}.npz"
    if cache.is_file():
        with np.load(cache) as kept:
            return Samples(**{name: kept[name] for name in ("pixels", "points", "weights", "lengths")})
    samples = rendered_samples(first_seed, count, contract, report=_step(progress, f"render {count} figures"))
    partial = cache.with_suffix(".partial.npz")
    np.savez(partial, pixels=samples.pixels, points=samples.points, weights=samples.weights, lengths=samples.lengths)
    partial.replace(cache)
    return samples


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in scores.items()}


def _shipped(network: nn.Module) -> nn.Module:
    return network.cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload,no-any-return]


def _provenance(config: TrainConfig, samples: Samples, origin: dict[str, Any] | None, best: int) -> dict[str, Any]:
    teacher = config.offline.network
    return {
        "recipe": config.model_dump(mode="json"),
        "branch": best,
        "offline_teacher_sha256": load_student(teacher).sha256 if teacher else None,
        "started_from": origin,
        "training_pictures": len(samples),
        "finished": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions(),
    }


def _origin(init: Path | None, folder: Path) -> dict[str, Any] | None:
    """Say what the run started from, and keep it in the folder: a resumed run ignores what it is told to start from."""
    kept = folder / _ORIGIN
    if (folder / CHECKPOINT).is_file():
        origin: dict[str, Any] | None = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else None
        return origin
    if init is None:
        kept.unlink(missing_ok=True)
        return None
    origin = _described(init)
    kept.write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    return origin


def _described(init: Path) -> dict[str, Any]:
    """Describe a student by its provenance, an earlier run by its recipe and how far it had come."""
    if is_student(init):
        student = load_student(str(init))
        return {"student": student.name, "sha256": student.sha256, "provenance": dict(student.provenance)}
    saved = load_checkpoint(init, device="cpu")
    try:
        return {"step": int(saved["step"]), "recipe": json.loads(saved["config"])}
    except (KeyError, TypeError, ValueError) as error:
        message = f"{init}: not a checkpoint of a training run ({type(error).__name__}: {error})"
        raise BadInputError(message) from error
