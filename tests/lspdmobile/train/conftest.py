"""Samples made to be learned."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lspdmobile.skeleton import LSP_14
from lspdmobile.train.samples import STORED_SIZE, Samples


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in a fixed order, and no quarrel about cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def dotted_samples(count: int, seed: int = 0) -> Samples:
    """Grey crops in which joint k is a disc of the k-th colour."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(0.2, 0.8, (count, LSP_14.count, 2)).astype(np.float32) * STORED_SIZE
    colours = np.random.default_rng(99).integers(0, 256, (LSP_14.count, 3), dtype=np.uint8)
    pixels = np.full((count, STORED_SIZE, STORED_SIZE, 3), 128, np.uint8)
    rows, columns = np.mgrid[:STORED_SIZE, :STORED_SIZE] + 0.5
    for picture, places in zip(pixels, points, strict=True):
        for colour, (x, y) in zip(colours, places, strict=True):
            picture[np.hypot(columns - x, rows - y) < 10] = colour
    torso, head = LSP_14.torso, LSP_14.head
    assert torso
    assert head
    lengths = [np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in (torso, head)]
    return Samples(
        pixels=pixels,
        points=points,
        weights=np.ones(points.shape[:2], np.float32),
        lengths=np.stack(lengths, axis=1).astype(np.float32),
    )


@pytest.fixture(scope="session")
def samples() -> Samples:
    return dotted_samples(16)


@pytest.fixture(scope="session")
def many_samples() -> Samples:
    return dotted_samples(64)


@pytest.fixture(scope="session")
def held_out() -> Samples:
    return dotted_samples(8, seed=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"
