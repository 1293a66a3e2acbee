"""Hypotheses on what the network inside an artifact is fed: the float student is run again on such inputs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lspdmobile.choices import Cause
from lspdmobile.diagnosis.evidence import Candidate, Evidence

__all__ = ["input_candidates"]


def input_candidates(evidence: Evidence) -> Iterator[Candidate]:
    """Run the float student on inputs in another colour order, normalisation, layout or direction."""
    for make in (_colours, _normalisations, _layouts, _mirrors):
        for cause, sentence, inputs in make(evidence):
            yield Candidate(cause=cause, sentence=sentence, maps=evidence.run(inputs))


_Made = Iterator[tuple[Cause, str, NDArray[Any]]]


def _colours(evidence: Evidence) -> _Made:
    ours, theirs = ("RGB", "BGR") if evidence.contract.colour_order == "rgb" else ("BGR", "RGB")
    told = f"the colour channels are exchanged: it reads {theirs} where the student's contract says {ours}"
    yield Cause.COLOUR, told, evidence.inputs[:, ::-1]
    swapped = (evidence.pixels[:, ::-1] - evidence.mean) / evidence.std
    yield Cause.COLOUR, told, swapped


def _normalisations(evidence: Evidence) -> _Made:
    x, pixels, mean, std = evidence.inputs, evidence.pixels, evidence.mean, evidence.std
    for told, inputs in (
        (
            "normalisation is missing: the network is given pixels of 0 to 1, without the contract's mean and std",
            pixels,
        ),
        (
            "normalisation is missing: the network is given pixels of 0 to 255, without the contract's mean and std",
            255 * pixels,
        ),
        (
            "normalisation is applied twice: the pictures are normalised already, and the file does it again",
            (x - mean) / std,
        ),
        (
            "normalisation is another one: pixels are brought to -1 to 1 instead of by the contract's mean and std",
            2 * pixels - 1,
        ),
        ("normalisation is half done: the mean is not subtracted", pixels / std),
        ("normalisation is half done: the std is not divided by", pixels - mean),
        ("normalisation divides by 255 once too often", (pixels / 255 - mean) / std),
        ("normalisation does not divide by 255", (255 * pixels - mean) / std),
        ("normalisation takes mean and std in reverse channel order", (pixels - mean[::-1]) / std[::-1]),
    ):
        yield Cause.NORMALISATION, told, inputs


def _layouts(evidence: Evidence) -> _Made:
    x = evidence.inputs
    count, channels, rows, columns = x.shape
    told = "the input's layout is mixed up: numbers that lie as {} are read as {}, without a transposition"
    as_nchw = x.transpose(0, 2, 3, 1).reshape(x.shape)
    as_nhwc = x.reshape(count, rows, columns, channels).transpose(0, 3, 1, 2)
    yield Cause.LAYOUT, told.format("NHWC", "NCHW"), as_nchw
    yield Cause.LAYOUT, told.format("NCHW", "NHWC"), as_nhwc
    turned = x.swapaxes(2, 3)
    yield Cause.LAYOUT, "rows and columns of the input are exchanged", np.ascontiguousarray(turned).reshape(x.shape)


def _mirrors(evidence: Evidence) -> _Made:
    yield Cause.MIRROR, "pictures are mirrored left to right before the network", evidence.inputs[..., ::-1]
    yield Cause.MIRROR, "pictures are upside down before the network", evidence.inputs[..., ::-1, :]
