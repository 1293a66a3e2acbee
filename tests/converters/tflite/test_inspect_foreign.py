"""Files that other tools write, made here table by table: no emitter of ours has such things in it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import tflite
from converters.tflite.flatbuffer import add_metadata, to_bytes
from converters.tflite.metadata_schema import encoded
from converters.tflite.standard_metadata import NAME
from lspdmobile.artifact import ArtifactFacts, TensorFacts
from lspdmobile.encodings import Encoding
from lspdmobile.errors import BadInputError

Shape = Sequence[int]


class File:
    """A model under construction: buffers, operator codes and subgraphs of tensors and operators."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.model: Any = schema.ModelT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [schema.BufferT()], [], []

    def graph(self, name: str = "main") -> Any:
        """Add a subgraph."""
        graph = self.schema.SubGraphT()
        graph.name, graph.tensors, graph.operators, graph.inputs, graph.outputs = name.encode(), [], [], [], []
        self.model.subgraphs.append(graph)
        return graph

    def tensor(self, graph: Any, name: str, shape: Shape, dtype: str = "FLOAT32", data: Any = None) -> int:
        """Add a tensor; gives its index."""
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), self.dtype(dtype), 0
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = list(np.asarray(data).tobytes())
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def dtype(self, name: str) -> int:
        """Give a type's number."""
        return int(getattr(self.schema.TensorType, name))

    def operator(self, graph: Any, kind: str, inputs: Sequence[int], outputs: Sequence[int], custom: str = "") -> Any:
        """Add an operator."""
        code, operator = self.schema.OperatorCodeT(), self.schema.OperatorT()
        number = int(getattr(self.schema.BuiltinOperator, kind))
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        code.customCode = custom.encode() or None
        operator.opcodeIndex, operator.inputs, operator.outputs = (
            len(self.model.operatorCodes),
            list(inputs),
            list(outputs),
        )
        self.model.operatorCodes.append(code)
        graph.operators.append(operator)
        return operator

    def signature(self, name: str, number: int) -> None:
        """Name a subgraph, its inputs and its outputs."""
        graph, signature = self.model.subgraphs[number], self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = name.encode(), number
        for side in ("inputs", "outputs"):
            entries = []
            for index in getattr(graph, side):
                entry = self.schema.TensorMapT()
                entry.name, entry.tensorIndex = f"{name}_{side}".encode(), index
                entries.append(entry)
            setattr(signature, side, entries)
        self.model.signatureDefs = [*(self.model.signatureDefs or []), signature]

    def written(self, path: Path) -> Path:
        """Write the file."""
        path.write_bytes(to_bytes(self.model))
        return path


def adding(file: File, name: str = "main", shape: Shape = (1, 4), signature: Shape | None = None) -> Any:
    """Add a subgraph that adds a constant."""
    graph = file.graph(name)
    source, result = file.tensor(graph, "x", shape), file.tensor(graph, "y", shape)
    constant = file.tensor(graph, "c", [shape[-1]], data=np.ones(shape[-1], np.float32))
    for index in (source, result):
        graph.tensors[index].shapeSignature = list(signature) if signature else None
    operator = file.operator(graph, "ADD", [source, constant], [result])
    operator.builtinOptionsType, operator.builtinOptions = (
        file.schema.BuiltinOptions.AddOptions,
        file.schema.AddOptionsT(),
    )
    graph.inputs, graph.outputs = [source], [result]
    return graph


def assert_bytes_add_up(facts: ArtifactFacts) -> None:
    total = sum((Counter(held) for held in facts.weight_bytes_by_layer.values()), Counter[str]())
    assert total == Counter(facts.weight_bytes_by_dtype)


def multiplying(file: File, dtype: str, weight: Any, shape: Shape) -> tuple[Any, int]:
    """Add a subgraph with one fully connected layer; gives it and the index of its weights."""
    graph = file.graph()
    source = file.tensor(graph, "x", [1, shape[1]])
    weights = file.tensor(graph, "w", shape, dtype, weight)
    result = file.tensor(graph, "y", [1, shape[0]])
    read = weights
    if dtype == "FLOAT16":
        read = file.tensor(graph, "w32", shape)
        file.operator(graph, "DEQUANTIZE", [weights], [read])
    operator = file.operator(graph, "FULLY_CONNECTED", [source, read, -1], [result])
    operator.builtinOptionsType = file.schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = file.schema.FullyConnectedOptionsT()
    graph.inputs, graph.outputs = [source], [result]
    return graph, weights


def test_lengths_that_are_not_fixed_are_told(tmp_path: Path) -> None:
    file = File()
    adding(file, signature=(-1, 4))
    facts = tflite.inspect(file.written(tmp_path / "open.tflite"))
    assert facts.inputs == (TensorFacts(name="x", shape=(-1, 4), dtype="float32"),)
    assert facts.outputs[0].shape == (-1, 4)
    assert facts.parts == ()


def test_every_subgraph_is_told_with_the_names_of_its_signature(tmp_path: Path) -> None:
    file = File()
    adding(file, "first")
    adding(file, "second", shape=(1, 6))
    adding(file, "helper", shape=(1, 2))
    file.signature("detect", 1)
    file.signature("track", 0)
    facts = tflite.inspect(file.written(tmp_path / "parts.tflite"))
    assert [(part.kind, part.name, part.main) for part in facts.parts] == [
        ("signature", "track", True),
        ("signature", "detect", False),
        ("subgraph", "helper", False),
    ]
    assert facts.inputs[0].name == "track_inputs"
    assert [part.inputs[0].name for part in facts.parts] == ["track_inputs", "detect_inputs", "x"]
    assert [part.outputs[0].shape for part in facts.parts] == [(1, 4), (1, 6), (1, 2)]
    assert facts.ops == {"ADD": 3}
    assert facts.weight_bytes_by_dtype == {"float32": 4 * (4 + 6 + 2)}
    assert facts.weight_bytes_by_layer["subgraph 1: ADD y"] == {"float32": 24}
    assert_bytes_add_up(facts)


def test_float16_weights_are_named_as_what_is_stored_and_what_is_read(tmp_path: Path) -> None:
    file = File()
    multiplying(file, "FLOAT16", np.ones((3, 8), np.float16), (3, 8))
    facts = tflite.inspect(file.written(tmp_path / "half.tflite"))
    assert facts.encodings == (
        Encoding(tensor="w", how="DEQUANTIZE", stored="float16", read_as="float32", size_bytes=48),
    )
    assert facts.weight_bytes_by_layer == {"FULLY_CONNECTED y": {"float16": 48}}
    assert sum(each.macs for each in facts.operators) == 3 * 8


def sparse(file: File, weights: Any, segments: list[int]) -> None:
    """Say of a weight ``[3, 8]`` that each row keeps what lies between two of the segments."""
    schema, sparsity = file.schema, file.schema.SparsityParametersT()
    dense, kept = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    dense.format, dense.denseSize = schema.DimensionType.DENSE, 3
    kept.format = schema.DimensionType.SPARSE_CSR
    kept.arraySegmentsType, kept.arraySegments = schema.SparseIndexVector.Int32Vector, schema.Int32VectorT()
    kept.arrayIndicesType, kept.arrayIndices = schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT()
    kept.arraySegments.values, kept.arrayIndices.values = segments, [0, 1, 2, 3, 4, 5]
    sparsity.traversalOrder, sparsity.dimMetadata = [0, 1], [dense, kept]
    weights.sparsity = sparsity


def test_places_of_what_a_sparse_constant_keeps_are_counted(tmp_path: Path) -> None:
    file = File()
    graph, weights = multiplying(file, "FLOAT32", np.ones(6, np.float32), (3, 8))
    sparse(file, graph.tensors[weights], [0, 2, 4, 6])
    facts = tflite.inspect(file.written(tmp_path / "sparse.tflite"))
    assert facts.weight_bytes_by_dtype == {"float32": 24, "int32": 16, "uint8": 6}
    (found,) = facts.encodings
    assert (found.how, found.size_bytes) == ("sparse, 75% left out", 46)
    assert_bytes_add_up(facts)


def test_a_grid_by_block_has_its_scales_and_they_count_for_the_layer(tmp_path: Path) -> None:
    file = File()
    graph, weights = multiplying(file, "INT4", np.zeros(3 * 64 // 2, np.int8), (3, 64))
    scales = file.tensor(graph, "s", (3, 2), "FLOAT16", np.arange(1, 7, dtype=np.float16))
    quantization, blocks = file.schema.QuantizationParametersT(), file.schema.BlockwiseQuantizationT()
    blocks.scales, blocks.zeroPoints, blocks.blockSize = scales, -1, 32
    quantization.details = blocks
    quantization.detailsType = file.schema.QuantizationDetails.BlockwiseQuantization
    graph.tensors[weights].quantization = quantization
    facts = tflite.inspect(file.written(tmp_path / "blocks.tflite"))
    (grid,) = facts.grids
    assert (grid.dtype, grid.scales, grid.block, grid.axis) == ("int4", (1, 2, 3, 4, 5, 6), (1, 32), None)
    assert facts.weight_bytes_by_layer == {"FULLY_CONNECTED y": {"int4": 96, "float16": 12}}
    blocks.scales = 99
    with pytest.raises(BadInputError, match="index 99"):
        tflite.inspect(file.written(tmp_path / "damaged.tflite"))


def test_an_operator_of_somebody_s_own_is_why_nothing_is_known(tmp_path: Path) -> None:
    file = File()
    graph = adding(file)
    last = file.tensor(graph, "z", (1, 4))
    file.operator(graph, "CUSTOM", [1], [last], custom="Nobody")
    graph.outputs = [last]
    facts = tflite.inspect(file.written(tmp_path / "custom.tflite"))
    assert facts.delegation is None
    assert "Nobody" in facts.undelegated
    assert [each.kind for each in facts.operators if not each.counted] == ["CUSTOM:Nobody"]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("picture", "scores"), ("what goes in", "what comes out")),
        (("x", "y"), ("what goes in", "what comes out")),
    ],
)
def test_descriptions_go_by_position_where_names_are_others(
    names: tuple[str, str], wanted: tuple[str, str], tmp_path: Path
) -> None:
    file = File()
    adding(file)
    sides = ({"name": name, "description": text} for name, text in zip(names, wanted, strict=True))
    told = {"input_tensor_metadata": [next(sides)], "output_tensor_metadata": [next(sides)]}
    add_metadata(file.model, {NAME: encoded({"subgraph_metadata": [told], "min_parser_version": "1.0.0"})})
    facts = tflite.inspect(file.written(tmp_path / "described.tflite"))
    assert (facts.inputs[0].description, facts.outputs[0].description) == wanted


def test_a_file_that_ends_litert_s_process_is_refused(tmp_path: Path) -> None:
    file = File()
    adding(file).operators[0].inputs = [-7, 2]  # -1 stands for an operand that is left out; LiteRT trusts the rest
    path = file.written(tmp_path / "crash.tflite")
    with pytest.raises(BadInputError, match=r"crash\.tflite: damaged TFLite file \(LiteRT crashes"):
        tflite.inspect(path)
