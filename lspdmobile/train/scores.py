"""Validation: what the first and the last stage score on stored crops."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lspdmobile.decode import decode, unflip
from lspdmobile.networks.lspd import LspdChain
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import Skeleton
from lspdmobile.train.samples import MARGIN, STORED_SIZE, Samples

__all__ = ["validate"]

_BATCH: Final = 64
_METRICS: Final = (("pck@0.2", 0, 0.2), ("pckh@0.5", 1, 0.5))


def validate(
    chain: LspdChain,
    samples: Samples,
    contract: PreprocessContract,
    skeleton: Skeleton,
    *,
    device: str = "cpu",
    flip_test: bool = False,
) -> dict[str, float]:
    """Score the first (shipped) and the last (teacher) stage on stored crops.

    Returns:
        ``pck@0.2`` and ``pckh@0.5`` of the student, and ``teacher pck@0.2``, fractions 0..1 over labelled joints;
        absent where no label allows them.
    """
    was_training = chain.training
    chain.eval()
    found: list[list[Any]] = [[], []]
    with torch.no_grad():
        for start in range(0, len(samples), _BATCH):
            inputs = _plain_inputs(samples.pixels[start : start + _BATCH], contract).to(device)
            stages = [m.float().cpu().numpy() for m in chain(inputs)]
            if flip_test:
                mirrored = [m.float().cpu().numpy() for m in chain(inputs.flip(3))]
                stages = [(a + unflip(b, skeleton.flip)) / 2 for a, b in zip(stages, mirrored, strict=True)]
            for kept, maps in zip(found, (stages[0], stages[-1]), strict=True):
                kept.append(decode(maps, stride=contract.heatmap_stride)[..., :2])
    chain.train(was_training)
    inner = STORED_SIZE / MARGIN
    scale = np.float32(inner) / np.asarray(contract.input_size[::-1], np.float32)
    student, teacher = (np.concatenate(kept) * scale + np.float32((STORED_SIZE - inner) / 2) for kept in found)
    scores = _scores(student, samples)
    if len(chain.refine):
        scores.update({f"teacher {k}": v for k, v in _scores(teacher, samples).items() if k == "pck@0.2"})
    return scores


def _scores(points: NDArray[np.float32], samples: Samples) -> dict[str, float]:
    distance = np.linalg.norm(points - samples.points, axis=2)
    scores = {}
    for key, column, alpha in _METRICS:
        length = samples.lengths[:, column : column + 1]
        judged = (samples.weights > 0) & (length > 0)
        if judged.any():
            scores[key] = float((distance <= alpha * length)[judged].mean())
    return scores


def _plain_inputs(pixels: NDArray[np.uint8], contract: PreprocessContract) -> Tensor:
    from PIL import Image

    rows, columns = contract.input_size
    edge = pixels.shape[1] * (1 - 1 / MARGIN) / 2
    view = edge, edge, pixels.shape[2] - edge, pixels.shape[1] - edge
    resized = [np.asarray(Image.fromarray(p).resize((columns, rows), Image.Resampling.BILINEAR, view)) for p in pixels]
    return torch.from_numpy(np.stack([contract.normalise(p) for p in resized]))
