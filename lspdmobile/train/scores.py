"""Validation: what the networks that may ship, and what teaches them, score on stored crops."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lspdmobile.decode import decode, unflip
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import Skeleton
from lspdmobile.train.recipes import Recipe
from lspdmobile.train.samples import MARGIN, STORED_SIZE, Samples

__all__ = ["best_candidate", "joint_hits", "keypoints", "validate"]

_BATCH: Final = 64
_METRICS: Final = (("pck@0.2", 0, 0.2), ("pckh@0.5", 1, 0.5))
_JUDGES: Final = 512

Read = Callable[[Any], Sequence[Tensor]]


def validate(
    network: nn.Module,
    recipe: Recipe,
    samples: Samples,
    contract: PreprocessContract,
    skeleton: Skeleton,
    *,
    candidate: int = 0,
    device: str = "cpu",
    flip_test: bool = False,
) -> dict[str, float]:
    """Score a candidate and the teacher on stored crops.

    Returns:
        ``pck@0.2`` and ``pckh@0.5`` of the candidate, and ``teacher pck@0.2`` where something teaches, fractions 0..1
        over labelled joints; absent where no label allows them.
    """

    def read(outputs: Any) -> list[Tensor]:
        teacher = recipe.teacher(outputs)
        shown = recipe.candidates(outputs)[candidate]
        return [shown] if teacher is None else [shown, teacher]

    student, *teachers = keypoints(network, read, samples, contract, skeleton, device=device, flip_test=flip_test)
    scores = _scores(student, samples)
    for found in teachers:
        scores.update({f"teacher {k}": v for k, v in _scores(found, samples).items() if k == "pck@0.2"})
    return scores


def best_candidate(
    network: nn.Module,
    recipe: Recipe,
    samples: Samples,
    contract: PreprocessContract,
    skeleton: Skeleton,
    *,
    device: str = "cpu",
) -> int:
    """Choose what ships by what the candidates score on 512 pictures, evenly spread, of the train set.

    The pictures are seen as they are, without a random change. Validation labels have no part in the choice.
    """
    if len(keypoints(network, recipe.candidates, samples.at(np.arange(1)), contract, skeleton, device=device)) == 1:
        return 0
    spread = np.unique(np.linspace(0, len(samples) - 1, _JUDGES).round().astype(int))
    judges = samples.at(spread)
    found = keypoints(network, recipe.candidates, judges, contract, skeleton, device=device)
    scores = [sum(_scores(points, judges).values()) for points in found]
    return scores.index(max(scores))


def keypoints(
    network: nn.Module,
    read: Read,
    samples: Samples,
    contract: PreprocessContract,
    skeleton: Skeleton,
    *,
    device: str = "cpu",
    flip_test: bool = False,
) -> list[NDArray[np.float32]]:
    """Decode each of the heatmaps that ``read`` takes from a network's outputs to crop pixels ``[P, K, 2]``."""
    was_training = network.training
    network.eval()
    found: list[list[Any]] = []
    with torch.no_grad():
        for start in range(0, len(samples), _BATCH):
            inputs = _plain_inputs(samples.pixels[start : start + _BATCH], contract).to(device)
            maps = [m.float().cpu().numpy() for m in read(network(inputs))]
            if flip_test:
                mirrored = [m.float().cpu().numpy() for m in read(network(inputs.flip(3)))]
                maps = [(a + unflip(b, skeleton.flip)) / 2 for a, b in zip(maps, mirrored, strict=True)]
            found.append([decode(m, contract=contract)[..., :2] for m in maps])
    network.train(was_training)
    inner = STORED_SIZE / MARGIN
    scale = np.float32(inner) / np.asarray(contract.input_size[::-1], np.float32)
    return [np.concatenate(kept) * scale + np.float32((STORED_SIZE - inner) / 2) for kept in zip(*found, strict=True)]


def joint_hits(points: NDArray[np.float32], samples: Samples) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Judge crop pixels ``[P, K, 2]`` by each metric.

    Returns:
        By metric, two bool ``[P, K]``: the joint is near enough to its label; there is a label to judge it by.
    """
    distance = np.linalg.norm(points - samples.points, axis=2)
    found = {}
    for key, column, alpha in _METRICS:
        length = samples.lengths[:, column : column + 1]
        judged = (samples.weights > 0) & (length > 0)
        found[key] = distance <= alpha * length, judged
    return found


def _scores(points: NDArray[np.float32], samples: Samples) -> dict[str, float]:
    hits = joint_hits(points, samples)
    return {key: float(hit[judged].mean()) for key, (hit, judged) in hits.items() if judged.any()}


def _plain_inputs(pixels: NDArray[np.uint8], contract: PreprocessContract) -> Tensor:
    from PIL import Image

    rows, columns = contract.input_size
    edge = pixels.shape[1] * (1 - 1 / MARGIN) / 2
    view = edge, edge, pixels.shape[2] - edge, pixels.shape[1] - edge
    resized = [np.asarray(Image.fromarray(p).resize((columns, rows), Image.Resampling.BILINEAR, view)) for p in pixels]
    return torch.from_numpy(np.stack([contract.normalise(p) for p in resized]))
