"""What a network costs: parameters, and plain multiply-accumulates of its convolutions and matrix products.

One MAC is one multiplication with its addition; a bias is not counted. From shapes alone::

    convolution             numel(output) * C_in / groups * k_y * k_x
    transposed convolution  numel(input) * C_out / groups * k_y * k_x
    matrix product          rows * inner * columns
    attention               numel(query) * keys + numel(output) * keys

The papers' "GFLOPs" are these MACs over 1024^3, which we call GiMAC.

1. A module runs once on the meta device, where tensors have shapes and no values, under a dispatch mode that sees every
   operator, functional ones too. Of an exported program every node is run so, on the shapes it was exported with; both
   break into the same operators.
2. An operator belongs to the innermost module whose forward runs it; parameters to the module that holds them.
3. Operators that are not counted are part of the answer.
"""

import copy
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils._python_dispatch import TorchDispatchMode

from lspdmobile.errors import BadInputError

__all__ = ["Cost", "LayerCost", "OperatorCost", "cost_of", "dtype_of", "macs_of", "params_of"]

_TRANSPOSED: Final = 6  # position of that flag among the arguments of aten::convolution
_GROUPS: Final = 8
_GIBI: Final = 1024**3
_REPEATED: Final = re.compile(r"@\d+")  # torch.export numbers the further calls of one module


@dataclass(frozen=True, kw_only=True)
class OperatorCost:
    """All calls of one kind of counted operator.

    Attributes:
        name: ``"convolution"``, ``"1x1 convolution"``, ``"depthwise convolution"``, ``"transposed convolution"``,
            ``"matrix product"`` or ``"attention"``.
        calls: How often it ran.
        macs: Plain multiply-accumulates of all calls.
    """

    name: str
    calls: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What one module costs by itself, without those inside it.

    Attributes:
        name: Dotted path; empty for the network's own forward.
        params: Learnt numbers it holds.
        macs: Plain multiply-accumulates of the operators its forward runs.
        operators: Operator name to how often its forward ran it, counted or not.
    """

    name: str
    params: int
    macs: int
    operators: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Parameters and MACs of one pass over one picture.

    Attributes:
        params: Learnt numbers, each counted once; running statistics are not parameters.
        macs: Plain multiply-accumulates.
        uncounted_ops: Operator name to how often it ran without being counted.
        layers: What every module costs that holds parameters or runs operators; they add up to the whole.
        operators: What every kind of counted operator costs; they add up to the whole.
    """

    params: int
    macs: int
    uncounted_ops: Mapping[str, int]
    layers: tuple[LayerCost, ...]
    operators: tuple[OperatorCost, ...]

    @property
    def gimacs(self) -> float:
        """Multiply-accumulates over 1024^3, what the papers print as GFLOPs."""
        return self.macs / _GIBI


def cost_of(
    network: nn.Module | ExportedProgram, input_size: tuple[int, int] | None = None, *, in_channels: int = 3
) -> Cost:
    """Count one pass; the network is not touched.

    Args:
        network: A module, or a program from ``torch.export``.
        input_size: Rows and columns H, W of the picture ``[1, in_channels, H, W]`` a module is counted on; an exported
            program is counted on the shapes it was exported with.
        in_channels: Channels of that picture.

    Raises:
        ValueError: A module comes without an input size, or a program with one.
        BadInputError: The program was exported for shapes that are not fixed.
    """
    if isinstance(network, ExportedProgram) is not (input_size is None):
        message = "a module is counted on an input size, an exported program on the shapes it was exported with"
        raise ValueError(message)
    if isinstance(network, ExportedProgram):
        counted = _counted_program(network)
    else:
        assert input_size is not None
        counted = _counted_module(network, (1, in_channels, *input_size))
    return counted.cost(network.named_parameters())


def macs_of(network: nn.Module, input_size: tuple[int, int], *, in_channels: int = 3) -> int:
    """Count the multiply-accumulates of one pass over a picture ``[1, in_channels, H, W]``."""
    return cost_of(network, input_size, in_channels=in_channels).macs


def params_of(network: nn.Module) -> int:
    """Count the parameters, each tensor once."""
    return sum(parameter.numel() for parameter in network.parameters())


def dtype_of(network: nn.Module) -> torch.dtype:
    """Give the float type a network computes in: that of its first float parameter, float32 where it has none."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


class _Counting(TorchDispatchMode):
    """Counts what runs under it, by the layer it is told."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.inside = [""]
        self.calls: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.layer_macs: Counter[str] = Counter()
        self.operator_macs: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        counted = _macs(name, args, out)
        if counted is not None:
            self.add(*counted)
        elif not func.is_view and name != "empty" and func.namespace != "prim":
            self.calls[self.inside[-1]][name] += 1
        return out

    def add(self, kind: str, macs: int) -> None:
        """Enter a counted operator."""
        self.calls[self.inside[-1]][kind] += 1
        self.layer_macs[self.inside[-1]] += macs
        self.operator_macs[kind] += macs

    def enter(self, layer: str, *_: Any) -> None:
        """Enter what runs from here on under a layer."""
        self.inside.append(layer)

    def leave(self, *_: Any) -> None:
        """Go back to the layer around it."""
        self.inside.pop()

    def cost(self, parameters: Iterable[tuple[str, Tensor]]) -> Cost:
        """Add the parameters and give the tables."""
        held: Counter[str] = Counter()
        seen: set[int] = set()
        for name, parameter in parameters:
            if id(parameter) not in seen:
                held[name.rpartition(".")[0]] += parameter.numel()
            seen.add(id(parameter))
        calls: Counter[str] = sum(self.calls.values(), Counter())
        return Cost(
            params=held.total(),
            macs=self.operator_macs.total(),
            uncounted_ops={name: calls[name] for name in sorted(calls) if name not in self.operator_macs},
            layers=tuple(
                LayerCost(name=name, params=held[name], macs=self.layer_macs[name], operators=dict(self.calls[name]))
                for name in dict.fromkeys((*self.calls, *held))
            ),
            operators=tuple(
                OperatorCost(name=name, calls=calls[name], macs=macs) for name, macs in self.operator_macs.most_common()
            ),
        )


def _counted_module(network: nn.Module, shape: tuple[int, ...]) -> _Counting:
    on_meta = copy.deepcopy(network).to("meta").eval()
    counting = _Counting()
    for path, module in on_meta.named_modules():
        module.register_forward_pre_hook(partial(counting.enter, path))
        module.register_forward_hook(counting.leave)
    with torch.no_grad(), counting:
        on_meta(torch.empty(shape, device="meta", dtype=dtype_of(network)))
    return counting


def _counted_program(program: ExportedProgram) -> _Counting:
    counting = _Counting()
    fakes = [n.meta["val"] for n in program.graph.nodes if isinstance(n.meta.get("val"), FakeTensor)]
    if any(not isinstance(side, int) for fake in fakes for side in fake.shape):
        message = "the exported program has dynamic shapes: export it for fixed ones to count it"
        raise BadInputError(message)
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        counting.enter(_layer_of(node))
        if isinstance(node.target, torch._ops.OpOverload):
            with torch.no_grad(), fakes[0].fake_mode, counting:
                node.target(*_values(node.args), **_values(node.kwargs))
        elif isinstance(node.target, torch._ops.HigherOrderOperator):
            counting.calls[counting.inside[-1]][str(node.target)] += 1
        counting.leave()
    return counting


def _values(arguments: Any) -> Any:
    return torch.fx.map_arg(arguments, lambda node: node.meta["val"])


def _layer_of(node: Node) -> str:
    """Dotted path of the innermost module a node comes from."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return _REPEATED.sub("", str(stack[-1][0])) if stack else ""


def _macs(name: str, args: tuple[Any, ...], out: Any) -> tuple[str, int] | None:
    """Give kind and count of one operator; None for those that are not counted."""
    match name:
        case "convolution":
            picture: Tensor = args[0]
            weight: Tensor = args[1]
            source = picture if args[_TRANSPOSED] else out
            return _kind_of_convolution(picture, weight, args), source.numel() * prod(weight.shape[1:])
        case "mm" | "bmm":
            return "matrix product", int(out.numel() * args[0].shape[-1])
        case "addmm" | "baddbmm":
            return "matrix product", int(out.numel() * args[1].shape[-1])
        case _ if name.startswith("_scaled_dot_product"):
            query, key = args[0], args[1]
            return "attention", int((query.numel() + out[0].numel()) * key.shape[-2])
        case _:
            return None


def _kind_of_convolution(picture: Tensor, weight: Tensor, args: tuple[Any, ...]) -> str:
    if args[_TRANSPOSED]:
        return "transposed convolution"
    if args[_GROUPS] == picture.shape[1] > 1:
        return "depthwise convolution"
    return "1x1 convolution" if prod(weight.shape[2:]) == 1 else "convolution"
