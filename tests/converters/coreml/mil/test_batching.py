"""Several pictures at once: where a program keeps them apart, and only there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.coreml.mil import MilProgram
from converters.coreml.mil.package import read_program
from converters.coreml.mil.planning import plan_program
from lspdmobile.errors import BadInputError

SHAPE = (1, 4, 6, 5)
SaveProgram = Callable[..., Path]
Body = Callable[..., Any]


def pictures(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((count, *SHAPE[1:])).astype(np.float32)


def ramp(*shape: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def network(mb: Any, x: Any) -> Any:
    """A little of everything that pose networks are made of."""
    y = mb.conv(x=x, weight=ramp(4, 4, 3, 3), bias=ramp(4), pad_type="same")
    y = mb.add(x=mb.relu(x=y), y=mb.pad(x=x, pad=[0, 0, 0, 0, 0, 0, 0, 0], mode="constant"))
    q = mb.quantize(input=y, scale=np.float32(0.05), zero_point=np.int8(3), output_dtype="int8")
    y = mb.dequantize(input=q, scale=np.float32(0.05), zero_point=np.int8(3))
    gate = mb.sigmoid(x=mb.reduce_mean(x=y, axes=[2, 3], keep_dims=True))
    y = mb.concat(values=[mb.mul(x=y, y=gate), mb.max_pool(x=y, kernel_sizes=[3, 3], pad_type="same")], axis=1)
    return mb.upsample_bilinear(x=mb.softmax(x=y, axis=1), scale_factor_height=2.0, scale_factor_width=2.0)


KEPT_APART: dict[str, Body] = {
    "network": network,
    "pad of the last axes": lambda mb, x: mb.pad(x=x, pad=[1, 1, 0, 2], mode="reflect"),
    "constant of fewer axes": lambda mb, x: mb.sub(x=x, y=ramp(6, 5)),
    "constant of one entry": lambda mb, x: mb.sub(x=ramp(1, 4, 1, 1), y=x),
    "softmax from behind": lambda mb, x: mb.softmax(x=x, axis=-3),
}
MIXED: dict[str, Body] = {
    "constant of two entries": lambda mb, x: mb.add(x=x, y=ramp(2, 1, 1, 1)),
    "joined along the first axis": lambda mb, x: mb.concat(values=[x, x], axis=0),
    "joined along the first axis from behind": lambda mb, x: mb.concat(values=[x, x], axis=-4),
    "reshaped": lambda mb, x: mb.reshape(x=x, shape=[1, 4, 30]),
    "reshaped to as many axes": lambda mb, x: mb.reshape(x=x, shape=[1, 6, 4, 5]),
    "summed up along the first axis": lambda mb, x: mb.cumsum(x=x, axis=0),
    "turned": lambda mb, x: mb.transpose(x=x, perm=[1, 0, 2, 3]),
    "mean over every axis": lambda mb, x: mb.add(x=x, y=mb.reduce_mean(x=x, axes=[0, 1, 2, 3], keep_dims=True)),
    "softmax along the first axis": lambda mb, x: mb.softmax(x=x, axis=0),
    "softmax along the first axis from behind": lambda mb, x: mb.softmax(x=x, axis=-4),
    "padded along the first axis": lambda mb, x: mb.pad(x=x, pad=[0, 1, 0, 0, 0, 0, 0, 0], mode="constant"),
    "squeezed": lambda mb, x: mb.squeeze(x=x, axes=[0]),
    "beside fewer axes": lambda mb, x: mb.add(x=x, y=mb.reduce_max(x=x, axes=[0, 1], keep_dims=False)),
    "beside fewer axes that begin alike": lambda mb, x: mb.add(x=x, y=mb.reduce_max(x=x, axes=[1, 2], keep_dims=False)),
    "joined with a constant": lambda mb, x: mb.concat(values=[x, ramp(1, 2, 6, 5)], axis=1),
}


@pytest.mark.parametrize("body", KEPT_APART.values(), ids=KEPT_APART)
def test_entries_that_are_kept_apart_go_through_together(body: Body, save_program: SaveProgram) -> None:
    program = MilProgram.load(save_program(body, x=SHAPE))
    assert program.takes_batches
    many = pictures(11)
    (found,) = program.predict_batch({"x": many}, at_once=4).values()
    alone = [next(iter(program.predict({"x": one[None]}).values())) for one in many]
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("body", MIXED.values(), ids=MIXED)
def test_others_go_through_one_by_one(body: Body, save_program: SaveProgram) -> None:
    program = MilProgram.load(save_program(body, x=SHAPE))
    assert not program.takes_batches
    many = pictures(3)
    (found,) = program.predict_batch({"x": many}).values()
    alone = [next(iter(program.predict({"x": one[None]}).values())) for one in many]
    assert np.array_equal(found, np.concatenate(alone))


def test_inside_values_can_be_had(save_program: SaveProgram) -> None:
    program = MilProgram.load(save_program(lambda mb, x: mb.square(x=mb.relu(x=x, name="cut")), x=SHAPE))
    many = pictures(5)
    assert np.array_equal(program.predict_batch({"x": many}, ["cut"], at_once=2)["cut"], np.maximum(many, 0))


def test_two_inputs_need_as_many_entries(save_program: SaveProgram) -> None:
    program = MilProgram.load(save_program(lambda mb, x, y: mb.add(x=x, y=y), x=SHAPE, y=SHAPE))
    (found,) = program.predict_batch({"x": pictures(3), "y": pictures(3)}).values()
    assert np.array_equal(found, 2 * pictures(3))
    for other in (pictures(2), pictures(0), np.float32(1)):
        with pytest.raises(BadInputError, match="as many entries of each input"):
            program.predict_batch({"x": pictures(3), "y": np.asarray(other)})


def test_a_picture_of_another_size_is_refused(save_program: SaveProgram) -> None:
    program = MilProgram.load(save_program(lambda mb, x: mb.relu(x=x), x=SHAPE))
    with pytest.raises(BadInputError, match=r"'x' is float32\[1, 4, 6, 5\], was given shape \[3, 4, 5, 6\]"):
        program.predict_batch({"x": pictures(3).swapaxes(2, 3)})


def test_a_program_of_several_entries_is_not_stacked(save_program: SaveProgram) -> None:
    assert not plan_program(read_program(save_program(lambda mb, x: mb.relu(x=x), x=(2, 4)))).takes_batches
