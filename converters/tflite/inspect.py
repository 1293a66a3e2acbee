"""What is really inside a ``.tflite`` file, ours or not, and what XNNPACK takes of it on this machine."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converters.layer_bytes import Reading, StoredConstant, layer_bytes
from converters.tflite.contents import constants, grids, main_operators
from converters.tflite.delegates import gpu_forecast, xnnpack_partition
from converters.tflite.flatbuffer import (
    dtype_name,
    named_borders,
    operators,
    read_model,
    tensor_name,
)
from converters.tflite.standard_metadata import described_tensors, read_metadata
from lspdmobile.artifact import ArtifactFacts, TensorFacts
from lspdmobile.operators import duplicates_of, layout_of_shape, leftovers_of

__all__ = ["inspect"]


def inspect(path: Path) -> ArtifactFacts:
    """Read a file's input, output, constants, operators, metadata and XNNPACK partition.

    The delegation is that of the interpreter's own partition after loading, None where this machine cannot load the
    file (custom operators, for instance). The GPU delegate is foretold.

    Raises:
        BadInputError: The file is unreadable, truncated or no TFLite file.
        EnvironmentLacksError: ai-edge-litert is absent.
    """
    model = read_model(path)
    weights, described, working = _weight_bytes(model), described_tensors(model), main_operators(model)
    inputs = _facts(model, "inputs", described)
    return ArtifactFacts(
        inputs=inputs,
        outputs=_facts(model, "outputs", described),
        weight_bytes_by_dtype=weights,
        ops=dict(Counter(name for name, _, _ in operators(model)).most_common()),
        delegation=xnnpack_partition(path, working),
        metadata=read_metadata(path, model),
        weight_bytes_by_layer=layer_bytes(_readings(model), weights),
        operators=working,
        forecasts=(gpu_forecast(path, working),),
        grids=grids(model),
        duplicates=duplicates_of(constants(model)),
        leftovers=leftovers_of(working),
        layout=layout_of_shape(inputs[0].shape) if inputs else None,
    )


def _facts(model: Any, side: str, described: Mapping[str, str]) -> tuple[TensorFacts, ...]:
    return tuple(
        TensorFacts(
            name=name,
            shape=tuple(int(n) for n in (tensor.shape if tensor.shape is not None else ())),
            dtype=dtype_name(tensor),
            description=described.get(name, ""),
        )
        for name, tensor in named_borders(model, side)
    )


def _weight_bytes(model: Any) -> dict[str, int]:
    """Sum the bytes of constants by dtype, a buffer that several tensors share once."""
    seen: set[int] = set()
    total: Counter[str] = Counter()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                total[dtype_name(tensor)] += len(data)
    return dict(total.most_common())


def _readings(model: Any) -> Iterator[Reading]:
    """Say which values and constants each operator reads."""
    for name, operator, graph in operators(model):
        read = [int(i) for i in operator.inputs if i >= 0] if operator.inputs is not None else []
        outputs = [int(i) for i in operator.outputs]
        data = {i: model.buffers[graph.tensors[i].buffer].data for i in read}
        yield Reading(
            name=f"{name} {tensor_name(graph.tensors[outputs[0]])}" if outputs else name,
            inputs=[(id(graph), i) for i in read if data[i] is None],
            outputs=[(id(graph), i) for i in outputs],
            constants=[
                StoredConstant(
                    key=graph.tensors[i].buffer, dtype=dtype_name(graph.tensors[i]), size_bytes=len(constant)
                )
                for i, constant in data.items()
                if constant is not None
            ],
        )
