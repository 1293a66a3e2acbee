"""A description that says something else than the program: Core ML would not load it, so it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.coreml.mil.package import read_program
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError

Copied = Callable[[Precision], Path]
Edit = Callable[[Path, Callable[[Any], None]], None]


def _renamed_input(model: Any) -> None:
    model.description.input[0].name = "picture"


def _renamed_output(model: Any) -> None:
    model.description.output[0].name = "maps"


def _other_element(model: Any) -> None:
    model.description.input[0].type.multiArrayType.dataType = 0x10010


def _other_length(model: Any) -> None:
    model.description.input[0].type.multiArrayType.shape[2] += 1


def _other_rank(model: Any) -> None:
    del model.description.input[0].type.multiArrayType.shape[0]


def _unknown_element(model: Any) -> None:
    model.description.output[0].type.multiArrayType.dataType = 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_renamed_input, r"names the inputs \['picture'\], the program \['input'\]"),
        (_renamed_output, r"names the outputs \['maps'\], the program \['heatmaps'\]"),
        (_other_element, r"'input' as float16\[1, 3, 64, 48\], the program as float32\[1, 3, 64, 48\]"),
        (_other_length, r"'input' as float32\[1, 3, 65, 48\]"),
        (_other_rank, r"'input' as float32\[3, 64, 48\]"),
        (_unknown_element, r"output 'heatmaps' as type 0"),
    ],
)
def test_a_description_that_is_not_the_programs_is_refused(
    change: Callable[[Any], None], said: str, copied: Copied, edit: Edit
) -> None:
    path = copied(Precision.FP32)
    read_program(path)
    edit(path, change)
    with pytest.raises(BadInputError, match=said):
        read_program(path)


def test_a_description_without_a_shape_leaves_it_to_the_program(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP32)

    def shapeless(model: Any) -> None:
        del model.description.output[0].type.multiArrayType.shape[:]

    edit(path, shapeless)
    assert read_program(path).outputs[0].name == "heatmaps"
