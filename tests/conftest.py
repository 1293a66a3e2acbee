"""Fixtures every test may use: seeded, tiny, and never at their defaults."""

import gc
import sys
from pathlib import Path
from typing import Any

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


gc.set_threshold(20_000, 10, 10)  # graphs of thousands of nodes are made all the time, and hardly any garbage

_MANY_MODULES = 100
_frozen = {"modules": 0}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put whole exports first: at the end, one would keep one worker while the others have nothing left."""
    items.sort(key=lambda item: "cli" not in item.path.parts)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let ``--dist loadfile`` give one worker all files of a format, which share what is made once."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    scheduler: Any = LoadFileScheduling(config, log)
    file_of = scheduler._split_scope

    def format_of(nodeid: str) -> str:
        file = str(file_of(nodeid))
        return "/".join(file.split("/")[:3]) if file.startswith("tests/converters/") else file

    scheduler._split_scope = format_of
    return scheduler


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
