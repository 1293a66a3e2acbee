"""Pictures without pixels: Gaussian heatmaps with known centres, and persons with known labels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.data.coco import Person
from lspdmobile.preprocess import PreprocessContract

Maps = NDArray[np.float32]
CELLS = 24
SIGMA = 1.5


@pytest.fixture
def contract() -> PreprocessContract:
    """The contract of the student that ships: 192 x 192 in, 24 x 24 heatmaps."""
    return PreprocessContract(input_size=(192, 192), heatmap_stride=8)


@pytest.fixture
def centres() -> NDArray[np.float64]:
    """Joint centres ``[12, 14, 2]`` in heatmap cells, away from the border."""
    return np.random.default_rng(5).uniform(2, CELLS - 3, (12, 14, 2))


@pytest.fixture
def gaussians() -> Callable[[NDArray[np.float64]], Maps]:
    """Draw heatmaps ``[N, K, 24, 24]`` with peaks at centres ``[N, K, 2]`` in cells."""

    def draw(at: NDArray[np.float64]) -> Maps:
        grid = np.arange(CELLS) + 0.5
        x, y = at[..., 0, None, None], at[..., 1, None, None]
        square = (grid[None, None, None, :] - x) ** 2 + (grid[None, None, :, None] - y) ** 2
        return np.exp(-square / (2 * SIGMA**2)).astype(np.float32)

    return draw


@pytest.fixture
def person() -> Callable[..., Person]:
    """Make a labelled person from keypoints ``[K, 3]``."""

    def make(keypoints: NDArray[np.float32], *, number: int = 1, image_id: int | None = None) -> Person:
        points = np.asarray(keypoints, np.float32)
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        width, height = float(high[0] - low[0]), float(high[1] - low[1])
        return Person(
            picture=Path(f"{number}.jpg"),
            keypoints=points,
            box=(float(low[0]), float(low[1]), width, height),
            area=max(width * height, 1.0),
            annotation_id=number,
            image_id=number if image_id is None else image_id,
        )

    return make


@pytest.fixture
def crowd(person: Callable[..., Person]) -> Callable[..., list[Person]]:
    """Make labelled persons at random: ``per_picture`` in each of ``pictures``, joints within 100 x 200 pixels."""

    def make(pictures: int, joints: int, *, seed: int = 0, per_picture: int = 1, labelled: float = 1.0) -> list[Person]:
        rng = np.random.default_rng(seed)
        persons = []
        for number in range(pictures * per_picture):
            points = np.empty((joints, 3), np.float32)
            points[:, :2] = rng.uniform((0, 0), (100, 200), (joints, 2)) + rng.uniform(0, 150, 2)
            points[:, 2] = 2 * (rng.random(joints) < labelled)
            persons.append(person(points, number=number + 1, image_id=number // per_picture))
        return persons

    return make
