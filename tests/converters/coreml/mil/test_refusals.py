"""What the executor does not implement is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.coreml.mil.program import MilProgram
from lspdmobile.errors import ConversionError


def _operation(kind: str) -> str:
    return rf"{kind} .*: operation '{kind}' is not implemented by the MIL executor"


def _recurrent(mb: Any, kind: str, gates: int) -> Any:
    x = np.zeros((2, 1, 3), np.float32)
    named: dict[str, Any] = {"initial_c": np.zeros((1, 4), np.float32)} if kind == "lstm" else {}
    return getattr(mb, kind)(
        x=x,
        initial_h=np.zeros((1, 4), np.float32),
        weight_ih=np.ones((gates * 4, 3), np.float32),
        weight_hh=np.ones((gates * 4, 4), np.float32),
        bias=np.zeros(gates * 4, np.float32),
        **named,
    )[0]


CASES: dict[str, tuple[Callable[..., Any], str]] = {
    "cond": (
        lambda mb, x: mb.cond(
            pred=mb.greater(x=mb.reduce_sum(x=x), y=0.0), _true_fn=lambda: mb.relu(x=x), _false_fn=lambda: mb.abs(x=x)
        ),
        r"cond .*: control flow \(an operation with blocks\) is not implemented",
    ),
    "while_loop": (
        lambda mb, x: mb.while_loop(
            _cond=lambda x: mb.less(x=mb.reduce_sum(x=x), y=9.0), _body=lambda x: mb.add(x=x, y=1.0), loop_vars=(x,)
        ),
        r"while_loop .*: control flow",
    ),
    "make_list": (
        lambda mb, x: mb.list_read(
            ls=mb.list_write(ls=mb.make_list(init_length=1, elem_shape=(2, 3)), index=0, value=x), index=0
        ),
        "a list, tuple or dictionary is not implemented",
    ),
    "random_bernoulli": (
        lambda mb, x: mb.add(x=x, y=mb.random_bernoulli(shape=[2, 3])),
        _operation("random_bernoulli"),
    ),
    "random_categorical": (lambda mb, x: mb.random_categorical(x=x), _operation("random_categorical")),
    "random_normal": (lambda mb, x: mb.add(x=x, y=mb.random_normal(shape=[2, 3])), _operation("random_normal")),
    "random_uniform": (lambda mb, x: mb.add(x=x, y=mb.random_uniform(shape=[2, 3])), _operation("random_uniform")),
    "rnn": (lambda mb, x: [mb.relu(x=x), _recurrent(mb, "rnn", 1)], _operation("rnn")),
    "gru": (lambda mb, x: [mb.relu(x=x), _recurrent(mb, "gru", 3)], _operation("gru")),
    "lstm": (lambda mb, x: [mb.relu(x=x), _recurrent(mb, "lstm", 4)], _operation("lstm")),
    "non_maximum_suppression": (
        lambda mb, x: mb.non_maximum_suppression(
            boxes=np.zeros((1, 4, 5), np.float32),
            scores=mb.tile(x=mb.reshape(x=x, shape=[1, 6, 1]), reps=[1, 1, 5]),
            iou_threshold=0.5,
            max_boxes=3,
        )[0],
        _operation("non_maximum_suppression"),
    ),
    "real_div of integers": (
        lambda mb, x: mb.real_div(x=mb.cast(x=x, dtype="int32"), y=2),
        r"real_div .*: x of dtype int32 is not implemented; floats are",
    ),
    "exp2 of integers": (
        lambda mb, x: mb.exp2(x=mb.cast(x=x, dtype="int32")),
        r"exp2 .*: x of dtype int32 is not implemented; floats are",
    ),
    "negative powers of integers": (
        lambda mb, x: mb.pow(x=mb.cast(x=x, dtype="int32"), y=-2),
        r"pow .*: cannot run: a negative power of integers is not defined",
    ),
    "local_response_norm of an even size": (
        lambda mb, x: mb.local_response_norm(x=mb.expand_dims(x=x, axes=[0]), size=2),
        "size 2 is not implemented; odd sizes are",
    ),
    "l2_pool that rounds up": (
        lambda mb, x: mb.l2_pool(
            x=mb.expand_dims(x=x, axes=[0]), kernel_sizes=[2], strides=[2], pad_type="valid", ceil_mode=True
        ),
        "l2_pool .*: ceil_mode is not implemented",
    ),
    "a reflection of more than there is": (
        lambda mb, x: mb.pad(x=x, pad=[3, 0], mode="reflect"),
        "3 rows cannot be reflected from 3",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_implemented_is_refused_by_name(case: str, save_program: Callable[..., Path]) -> None:
    body, complaint = CASES[case]
    path = save_program(body, x=(2, 3))
    with pytest.raises(ConversionError, match=complaint):
        MilProgram.load(path).predict({"x": np.ones((2, 3))})


def test_classifiers_are_refused(save_program: Callable[..., Path], edit: Callable[..., None]) -> None:
    """Core ML Tools makes no classifier of a program built by hand, so a file is changed into one."""
    path = save_program(lambda mb, x: mb.relu(x=x), x=(2, 3))

    def classify(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        operation = function.block_specializations[function.opset].operations[-1]
        operation.type = "classify"
        operation.outputs[0].type.dictionaryType.keyType.tensorType.dataType = 2

    edit(path, classify)
    with pytest.raises(ConversionError, match=r"classify .*: a list, tuple or dictionary is not implemented"):
        MilProgram.load(path)


def test_states_are_refused(save_program: Callable[..., Path], edit: Callable[..., None]) -> None:
    path = save_program(lambda mb, x: mb.relu(x=x), x=(2, 3))

    def remember(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        kind = function.inputs[0].type.tensorType
        function.inputs[0].type.stateType.wrappedType.tensorType.CopyFrom(kind)

    edit(path, remember)
    with pytest.raises(ConversionError, match="input 'x': a state is not implemented"):
        MilProgram.load(path)
