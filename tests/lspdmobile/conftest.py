"""A tiny student with everything around it, and its shape as a preset."""

import pytest

from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.networks.presets import PRESETS
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14
from lspdmobile.student import Student


@pytest.fixture
def student(tiny_config: LspdConfig, tiny_student: LspdStudent) -> Student:
    """A student in which nothing is at its default."""
    return Student(
        name="tiny",
        network=tiny_student,
        config=tiny_config,
        contract=PreprocessContract(input_size=tiny_config.input_size, heatmap_stride=8, colour_order="bgr"),
        skeleton=LSP_14,
        decode_rule="quarter",
        provenance={"recipe": {"seed": 3}, "pictures": 5},
        metrics={"val": {"pck@0.2": 0.5}},
    )


@pytest.fixture
def tiny_preset(tiny_config: LspdConfig, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a preset of the tiny student's shape."""
    assert isinstance(PRESETS, dict)
    monkeypatch.setitem(PRESETS, "tiny", tiny_config)
    return "tiny"
