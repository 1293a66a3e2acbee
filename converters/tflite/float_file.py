"""Float network to float ``.tflite`` bytes with litert-torch; every precision starts from the same ones.

litert-torch 0.10 takes ELU apart into EXP, SUB, GREATER_EQUAL and SELECT, with transposes around them: slow, inexact
near zero, and two of the four leave XNNPACK. TFLite has an ELU operator, so each ``nn.ELU`` is converted as a sine, an
operator of the same shape that pose networks never use, and every SIN of the file is then renamed to ELU.
"""

import copy
import hashlib
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from converters.tflite.flatbuffer import missing, operators, read_model, rename, to_bytes
from lspdmobile.choices import Layout
from lspdmobile.errors import ConversionError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FloatFile", "converted", "float_file"]

_INPUT_NAME: Final = "input"
_OUTPUT_NAME: Final = "heatmaps"


@dataclass(frozen=True, kw_only=True)
class FloatFile:
    """A converted network.

    Attributes:
        content: The file's bytes.
        seconds_before: Wall time of the conversion where an earlier call paid for it, else 0.
    """

    content: bytes
    seconds_before: float


_converted: "WeakKeyDictionary[nn.Module, dict[tuple[int, int, Layout], tuple[str, FloatFile]]]" = WeakKeyDictionary()
"""The last conversion of each living network, size and layout, and the hash of what was converted: five precisions of
one network convert once."""


def float_file(network: "nn.Module", input_size: tuple[int, int], layout: Layout) -> FloatFile:
    """Convert a network, or give the bytes of the last conversion where nothing changed since.

    Args:
        network: In eval mode; maps ``[1, 3, H, W]`` to heatmaps.
        input_size: Rows and columns H, W.
        layout: Axis order of the file's input ``input`` and output ``heatmaps``.

    Raises:
        EnvironmentLacksError: litert-torch is absent.
        ConversionError: The network mixes ELU and sine.
    """
    known, place, state = _converted.setdefault(network, {}), (*input_size, layout), _hash(network)
    if place in known and known[place][0] == state:
        return known[place][1]
    start = time.perf_counter()
    stand_in, count = _with_sines_for_elus(network)
    shape = (1, *input_size, 3) if layout is Layout.NHWC else (1, 3, *input_size)
    model = read_model(converted(stand_in, shape, layout))
    _sines_to_elus(model, count)
    rename(model, input_name=_INPUT_NAME, output_name=_OUTPUT_NAME)
    fresh = FloatFile(content=to_bytes(model), seconds_before=0.0)
    known[place] = state, replace(fresh, seconds_before=time.perf_counter() - start)
    return fresh


def _hash(network: "nn.Module") -> str:
    """Hash the modules and weights of a network."""
    digest = hashlib.sha256(str(network).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def converted(
    network: "nn.Module", shape: tuple[int, ...], layout: Layout, *, outputs: tuple[int, ...] = (0,)
) -> bytes:
    """Convert with litert-torch.

    Args:
        network: In eval mode; takes pictures or maps, channels first.
        shape: Of what it takes, in ``layout``.
        layout: Axis order of its input, and of its outputs as far as named.
        outputs: Which of its outputs have that order.

    Raises:
        EnvironmentLacksError: litert-torch is absent.
    """
    try:
        import litert_torch
        import torch
    except ImportError as error:
        raise missing(error) from error
    if layout is Layout.NHWC:
        network = litert_torch.to_channel_last_io(network, args=[0], outputs=list(outputs)).eval()
    shown = litert_torch.config.show_progress
    litert_torch.config.show_progress = False
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            content: bytes = litert_torch.convert(network, (torch.zeros(shape),)).model_content()
    finally:
        litert_torch.config.show_progress = shown
    return content


def _with_sines_for_elus(network: "nn.Module") -> tuple["nn.Module", int]:
    """Give a copy whose ELUs (alpha 1, the only one TFLite has) are sines, and their number; itself if it has none."""
    from torch import Tensor, nn, sin

    class Sine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return sin(x)

    def elus(module: nn.Module) -> list[tuple[nn.Module, str]]:
        found = [(parent, name) for parent in module.modules() for name, child in parent.named_children()]
        return [
            (parent, name)
            for parent, name in found
            if isinstance(child := getattr(parent, name), nn.ELU) and child.alpha == 1.0
        ]

    if not elus(network):
        return network, 0
    changed = copy.deepcopy(network)
    places = elus(changed)
    for parent, name in places:
        setattr(parent, name, Sine())
    return changed.eval(), len(places)


def _sines_to_elus(model: Any, count: int) -> None:
    """Rename SIN to ELU in the table of operator codes; a file without stand-ins is left alone.

    Raises:
        ConversionError: There are more or fewer sines than stand-ins.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    if not count:
        return
    sines = [operator for name, operator, _ in operators(model) if name == "SIN"]
    if len(sines) != count:
        message = (
            f"{count} ELU modules became {len(sines)} SIN operators: a network with both cannot be converted to TFLite"
        )
        raise ConversionError(message)
    for code in {operator.opcodeIndex for operator in sines}:
        model.operatorCodes[code].builtinCode = BuiltinOperator.ELU
        model.operatorCodes[code].deprecatedBuiltinCode = BuiltinOperator.ELU
