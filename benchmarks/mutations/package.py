"""A saved ``.mlpackage`` opened to be changed: its operations, its constants and ``weight.bin``."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.coreml.mil.constants import DTYPES, constant_from_value
from converters.coreml.mil.package import specification_path
from converters.coreml.mil.schema import model_from_bytes

__all__ = ["Package"]

Numbers = NDArray[Any]
_HOLDERS: Final = ("floats", "ints", "bools", "strings", "longInts", "doubles")


class Package:
    """A package's specification and weights, written back by :meth:`save`.

    Attributes:
        model: The specification, as a protobuf message.
        weights: The whole of ``weight.bin``.
    """

    def __init__(self, path: Path) -> None:
        self._file = specification_path(path)
        self._blob = self._file.parent / "weights" / "weight.bin"
        self.model: Any = model_from_bytes(self._file.read_bytes())
        self.weights = bytearray(self._blob.read_bytes())

    def save(self) -> None:
        """Write both files back."""
        self._file.write_bytes(self.model.SerializeToString())
        self._blob.write_bytes(self.weights)

    @property
    def function(self) -> Any:
        """The one function."""
        return next(iter(self.model.mlProgram.functions.values()))

    @property
    def block(self) -> Any:
        """The function's one block."""
        return next(iter(self.function.block_specializations.values()))

    def operations(self, *kinds: str) -> list[Any]:
        """List the operations of these kinds, of all kinds but constants if none is named."""
        return [op for op in self.block.operations if (op.type in kinds if kinds else op.type != "const")]

    def constant(self, operation: Any, parameter: str) -> Any | None:
        """Give the value message of a parameter that is a constant, wherever it is written."""
        if parameter in operation.attributes:
            return operation.attributes[parameter]
        if parameter not in operation.inputs or not operation.inputs[parameter].arguments:
            return None
        binding = operation.inputs[parameter].arguments[0]
        if binding.HasField("value"):
            return binding.value
        maker = self.maker(binding.name)
        return maker.attributes["val"] if maker is not None and maker.type == "const" else None

    def maker(self, name: str) -> Any | None:
        """Give the operation that makes a value."""
        return next((op for op in self.block.operations if any(out.name == name for out in op.outputs)), None)

    def read(self, value: Any) -> Numbers | str:
        """Decode a constant."""
        return constant_from_value(value, self._file.parent, {}, "a constant").value

    def numbers(self, value: Any) -> Numbers:
        """Decode a constant of numbers."""
        found = self.read(value)
        assert not isinstance(found, str)
        return np.array(found)

    def write(self, value: Any, content: Numbers | str) -> None:
        """Replace a constant by one of the same type and shape."""
        if value.HasField("blobFileValue"):
            assert not isinstance(content, str)
            start = self.start_of(value)
            raw = content.tobytes()
            self.weights[start : start + len(raw)] = raw
            return
        tensor = value.immediateValue.tensor
        if tensor.HasField("bytes"):
            assert not isinstance(content, str)
            tensor.bytes.values = content.tobytes()
            return
        holder = next(name for name in _HOLDERS if tensor.HasField(name))
        items: Sequence[Any] = [content] if isinstance(content, str) else content.ravel().tolist()
        getattr(tensor, holder).values[:] = items

    def start_of(self, value: Any) -> int:
        """Give where in ``weight.bin`` the bytes of a constant begin."""
        return int(struct.unpack_from("<Q", self.weights, value.blobFileValue.offset + 16)[0])

    def stored(self, *, floats: bool | None = None) -> list[Any]:
        """List the constants of several elements that lie in ``weight.bin``, floats or integers alone if so asked."""
        values = [value for op in self.block.operations for value in self._written(op)]
        chosen = [value for value in values if value.HasField("blobFileValue")]
        wanted = [v for v in chosen if floats is None or DTYPES[v.type.tensorType.dataType].is_float == floats]
        return sorted(wanted, key=lambda value: int(value.blobFileValue.offset))

    def _written(self, operation: Any) -> list[Any]:
        bound = [b.value for argument in operation.inputs.values() for b in argument.arguments if b.HasField("value")]
        return [*operation.attributes.values(), *bound]

    def alike(self, name: str) -> list[str]:
        """List the values made before a value that have its type."""
        kinds = {named.name: named.type.SerializeToString() for named in self.function.inputs}
        for operation in self.block.operations:
            for named in operation.outputs:
                if named.name == name:
                    wanted = named.type.SerializeToString()
                    return [other for other, kind in kinds.items() if kind == wanted]
                if operation.type != "const":
                    kinds[named.name] = named.type.SerializeToString()
        return []
