"""What is really inside a ``.tflite`` file, ours or not, and what XNNPACK takes of it on this machine."""

from collections import Counter
from pathlib import Path
from typing import Any

from converters.layer_bytes import layer_bytes
from converters.tflite.contents import constants, graph_operators, grids
from converters.tflite.delegates import gpu_forecast, xnnpack_partition
from converters.tflite.flatbuffer import (
    dtype_name,
    main_graph,
    metadata_buffers,
    named_borders,
    operators,
    read_model,
    shape_of,
    signature_of,
)
from converters.tflite.probing import ask, ask_apart
from converters.tflite.standard_metadata import OURS, descriptions, read_metadata
from converters.tflite.storage import encodings, readings, weight_bytes
from lspdmobile.artifact import ArtifactFacts, Part, TensorFacts
from lspdmobile.delegation import Delegation
from lspdmobile.errors import BadInputError
from lspdmobile.operators import duplicates_of, layout_of_shape, leftovers_of

__all__ = ["inspect"]


def inspect(path: Path) -> ArtifactFacts:
    """Read a file's inputs, outputs, constants, operators, metadata and XNNPACK partition.

    The delegation is that of the interpreter's own partition after loading, None where this machine cannot load the
    file (custom operators, for instance). The GPU delegate is foretold. Both are of the first subgraph. Files of others
    are given to LiteRT in a process of its own, because a damaged one can end the process that loads it.

    Raises:
        BadInputError: The file is unreadable, truncated or no TFLite file.
        EnvironmentLacksError: ai-edge-litert is absent.
    """
    model = read_model(path)
    try:
        return _facts(path, model)
    except (LookupError, AttributeError, TypeError, ValueError, OverflowError) as error:
        message = f"{path}: damaged TFLite file ({type(error).__name__}: {error}); write or download it again"
        raise BadInputError(message) from error


def _facts(path: Path, model: Any) -> ArtifactFacts:
    weights, working = weight_bytes(model), graph_operators(model, main_graph(model))
    inputs, outputs = (_borders(model, side) for side in ("input", "output"))
    answer = ask(path) if OURS in metadata_buffers(model) else ask_apart(path)
    partition = xnnpack_partition(answer, working)
    return ArtifactFacts(
        inputs=inputs,
        outputs=outputs,
        weight_bytes_by_dtype=weights,
        ops=dict(Counter(name for name, _, _ in operators(model)).most_common()),
        delegation=partition if isinstance(partition, Delegation) else None,
        undelegated=partition if isinstance(partition, str) else "",
        metadata=read_metadata(path, model),
        weight_bytes_by_layer=layer_bytes(readings(model), weights),
        operators=working,
        forecasts=(gpu_forecast(answer, working),),
        grids=grids(model),
        duplicates=duplicates_of(constants(model)),
        leftovers=leftovers_of(working),
        layout=layout_of_shape(inputs[0].shape) if inputs else None,
        parts=_parts(model) if len(model.subgraphs) > 1 else (),
        encodings=encodings(model),
    )


def _borders(model: Any, side: str, number: int = 0) -> tuple[TensorFacts, ...]:
    """Describe the ``"input"`` or ``"output"`` tensors of a subgraph; the format describes those of the first."""
    named = named_borders(model, f"{side}s", number)
    said = [""] * len(named) if number else descriptions(model, side, [name for name, _ in named])
    return tuple(
        TensorFacts(name=name, shape=shape_of(tensor), dtype=dtype_name(tensor), description=text)
        for (name, tensor), text in zip(named, said, strict=True)
    )


def _parts(model: Any) -> tuple[Part, ...]:
    """Give every subgraph; those that no signature names are what loops, branches and initialisation run."""
    found = []
    for number, graph in enumerate(model.subgraphs):
        signature, working = signature_of(model, number), graph_operators(model, graph)
        name = signature.signatureKey if signature is not None else graph.name
        found.append(
            Part(
                kind="subgraph" if signature is None else "signature",
                name=(name or b"").decode(errors="replace") or str(number),
                inputs=_borders(model, "input", number),
                outputs=_borders(model, "output", number),
                operators=len(working),
                macs=sum(each.macs for each in working),
                main=number == 0,
            )
        )
    return tuple(found)
