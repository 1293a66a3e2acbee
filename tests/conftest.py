"""Fixtures every test may use: seeded, tiny, and never at their defaults."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch import nn

from lspdmobile.fusion import randomise_norms
from lspdmobile.networks.lspd import LspdConfig, LspdStudent

settings.register_profile("quick", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("quick")

TINY_CONFIG = LspdConfig(
    keypoints=14,
    input_size=(64, 64),
    trunk="pyramid",
    features=16,
    mid_channels=12,
    blocks=1,
    stages=2,
    pyramid_channels=(8, 8, 12, 16),
    pyramid_blocks=(1, 1, 1),
)


_GROUPED = Path(__file__).parent / "converters"
_MANY_MODULES = 100
_frozen = {"modules": 0}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a file's tests to one worker, and all tests of a format: its files and its runtime are made once.

    Whole exports go first: at the end, one of them would keep one worker while the others have nothing left.
    """
    items.sort(key=lambda item: "cli" not in item.path.parts)
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            folders = item.path.parent.relative_to(_GROUPED).parts if item.path.is_relative_to(_GROUPED) else ()
            item.add_marker(pytest.mark.xdist_group(folders[0] if folders else item.path.stem))


@pytest.fixture(autouse=True)
def _imports_are_frozen() -> None:
    """Exempt what large imports made from full garbage collections: Core ML Tools runs some at every conversion."""
    if len(sys.modules) > _frozen["modules"] + _MANY_MODULES:
        gc.collect()
        gc.freeze()
        _frozen["modules"] = len(sys.modules)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_config() -> LspdConfig:
    """Shape of ``tiny_student``: 64x64 pictures, 14 keypoints, a few thousand parameters."""
    return TINY_CONFIG


@pytest.fixture
def tiny_student(tiny_config: LspdConfig) -> nn.Module:
    """A small student in eval mode whose norms are nowhere near the identity."""
    student = LspdStudent(tiny_config).eval()
    randomise_norms(student, torch.Generator().manual_seed(1))
    return student


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three small pictures, of different sizes, one of them grey."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index, (shape, mode) in enumerate([((70, 64, 3), "RGB"), ((64, 90, 3), "RGB"), ((64, 64), "L")]):
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels, mode=mode).save(folder / f"{index}.png")
    return folder
