"""Students that were not made here: any exported program, or any module with its weights, and a contract file.

What a network gives is brought to one tensor of four axes, which is what every artifact has as its only result:
heatmaps ``[N, K, h, w]``; SimCC's two as ``[N, K, 1, X + Y]``; coordinates as ``[N, K, 1, 2 or 3]``
(``lspdmobile.decode``).
"""

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from lspdmobile.artifact import sha256_of
from lspdmobile.errors import BadInputError
from lspdmobile.fusion.graph import capture
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.program import load_program
from lspdmobile.student import NAME, Student
from lspdmobile.usage import Usage
from lspdmobile.weights import first_line, state_dict_of, with_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["factory_arguments", "student_of_factory", "student_of_program"]

_CELLS: Final = 48
"""A head without cells is judged as one whose heatmaps have so many along the longer side."""


def student_of_program(path: Path, usage: Usage) -> Student:
    """Make a student of a ``.pt2`` file.

    Raises:
        BadInputError: The file cannot be read, or what it holds does not fit its contract file.
    """
    program = load_program(path)
    size, alone = _input_of(program, path)
    if usage.input_size is not None and usage.input_size != size:
        message = f"{usage.source}: input_size is {list(usage.input_size)}, {path} was exported for {list(size)}"
        raise BadInputError(message)
    module = capture(program).module
    plain = _Read(module, usage, _chosen(module, usage, size, path))
    keeps_program = alone and isinstance(_run(module, size, path), Tensor) and usage.head == "heatmap"
    return _student(
        module if keeps_program else plain.eval(),
        usage,
        size,
        path=path,
        program=program if keeps_program else None,
        made_by="exported program",
    )


def student_of_factory(path: Path, factory: str, arguments: Mapping[str, Any], usage: Usage) -> Student:
    """Make a student of a state dict and the function or class that builds its module.

    Args:
        path: ``.pth``, ``.pt`` or ``.safetensors`` file of tensors.
        factory: ``package.module:name``; imported and called, so that code of the user's own runs.
        arguments: What it is called with.
        usage: How the network is used; must say the input's size.

    Raises:
        BadInputError: It cannot be imported or called, gives no module, the weights do not fit it, or the network does
            not fit its contract file.
    """
    if usage.input_size is None:
        message = f"{usage.source}: input_size is missing; a module does not say what pictures it takes"
        raise BadInputError(message)
    network = with_weights(_built(factory, arguments), state_dict_of(path), path)
    read = _Read(network, usage, _chosen(network, usage, usage.input_size, path))
    return _student(read.eval(), usage, usage.input_size, path=path, program=None, made_by=factory)


def factory_arguments(text: str) -> dict[str, Any]:
    """Read ``--arch-args``: a JSON object, or a comma list of ``key=value`` with JSON values or plain words.

    Raises:
        BadInputError: It is neither.
    """
    try:
        if text.lstrip().startswith("{"):
            found: dict[str, Any] = json.loads(text)
            return found
        pairs = [item.split("=", 1) for item in text.split(",") if item.strip()]
        return {key.strip(): _value(value.strip()) for key, value in pairs}
    except ValueError as error:
        message = f"--arch-args {text!r}: neither key=value,… nor a JSON object ({error})"
        raise BadInputError(message) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _built(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    where, _, name = factory.partition(":")
    try:
        with _current_folder():
            build: Any = importlib.import_module(where)
            for part in name.split("."):
                build = getattr(build, part)
            network = build(**arguments)
    except Exception as error:  # the user's own code may raise anything
        told = f"{type(error).__name__}: {first_line(error)}"
        message = f"--arch {factory}: could not be imported and called with {dict(arguments)} ({told})"
        raise BadInputError(message) from error
    if not isinstance(network, nn.Module):
        message = f"--arch {factory}: gives a {type(network).__name__}, not a torch.nn.Module"
        raise BadInputError(message)
    return network.eval()


@contextmanager
def _current_folder() -> "Iterator[None]":
    """Let modules of the current folder be imported, as ``python -m`` does."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


class _Read(nn.Module):
    """A network of which the chosen results are brought to one tensor of four axes."""

    def __init__(self, network: nn.Module, usage: Usage, places: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.head = usage.head
        self.joints = usage.skeleton.count
        self.places = tuple(places)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map normalised pictures ``[N, 3, H, W]`` to what the decode rule reads."""
        leaves = pytree.tree_leaves(self.network(pictures))
        chosen = [leaves[place] for place in self.places]
        if self.head == "simcc":
            return torch.cat(chosen, -1).reshape(-1, self.joints, 1, sum(each.shape[-1] for each in chosen))
        first: Tensor = chosen[0]
        if self.head == "regression":
            return first.reshape(-1, self.joints, 1, first[0].numel() // self.joints)
        return first


@dataclass(frozen=True, kw_only=True)
class _Result:
    """One tensor of what a network gives: how it is called, and its shape for one picture."""

    name: str
    shape: tuple[int, ...]


def _chosen(network: nn.Module, usage: Usage, size: tuple[int, int], path: Path) -> list[int]:
    """Choose among a network's results by the contract file.

    Raises:
        BadInputError: It names one that is not there, or leaves a choice.
    """
    paths, _ = pytree.tree_flatten_with_path(_run(network, size, path))
    results = [_Result(name=pytree.keystr(where) or "", shape=tuple(value.shape)) for where, value in paths]
    wanted = 2 if usage.head == "simcc" else 1
    places = list(range(wanted)) if not usage.outputs and len(results) == wanted else []
    for output in usage.outputs:
        keys = [i for i, each in enumerate(results) if each.name.strip("[].'\"") == output]
        place = output if isinstance(output, int) else next(iter(keys), None)
        if place is None or not -len(results) <= place < len(results):
            break
        places.append(place % len(results))
    shapes = [results[place].shape for place in places]
    if len(places) == wanted and (usage.head != "simcc" or shapes[0][-1] * size[0] == shapes[1][-1] * size[1]):
        return places
    listed = ", ".join(f"{i}{each.name and f' ({each.name})'}: {list(each.shape)}" for i, each in enumerate(results))
    which = "the strips across, then those down," if usage.head == "simcc" else "one"
    message = (
        f"{usage.source}: a {usage.head} head reads {which} of the network's {len(results)} results, and outputs is "
        f"{list(usage.outputs)}; choose by place or name: {listed}"
    )
    raise BadInputError(message)


def _run(network: nn.Module, size: tuple[int, int], path: Path) -> Any:
    """Run a network on an empty picture; everything that goes wrong in it is the user's to know."""
    try:
        with torch.no_grad():
            found = network(torch.zeros(1, 3, *size))
    except Exception as error:  # a module may raise anything
        message = f"{path}: the network does not take a picture [1, 3, {size[0]}, {size[1]}] ({first_line(error)})"
        raise BadInputError(message) from error
    if not all(isinstance(each, Tensor) for each in pytree.tree_leaves(found)):
        message = f"{path}: the network gives more than tensors"
        raise BadInputError(message)
    return found


def _input_of(program: ExportedProgram, path: Path) -> tuple[tuple[int, int], bool]:
    """Give rows and columns a program was exported for, and whether it was for one picture and nothing else.

    Raises:
        BadInputError: It takes something else than one picture tensor of three channels, channels first.
    """
    args, keywords = program.example_inputs or ((), {})
    shapes = [tuple(each.shape) for each in pytree.tree_leaves((args, keywords)) if isinstance(each, Tensor)]
    kinds = {each.dtype for each in pytree.tree_leaves(args) if isinstance(each, Tensor)}
    if len(shapes) != 1 or keywords or len(shapes[0]) != 4 or shapes[0][1] != 3 or kinds != {torch.float32}:
        given = f"takes {shapes or 'nothing that it tells'}, not one float32 picture [1, 3, H, W]"
        message = f"{path}: {given}; export it with torch.export.export(network, (picture,))"
        raise BadInputError(message)
    fixed = not program.range_constraints
    return (shapes[0][2], shapes[0][3]), fixed and shapes[0][0] == 1


def _student(
    network: nn.Module,
    usage: Usage,
    size: tuple[int, int],
    *,
    path: Path,
    program: ExportedProgram | None,
    made_by: str,
) -> Student:
    stride = _stride(tuple(_run(network, size, path).shape), usage, size)
    try:
        contract = PreprocessContract(
            input_size=size,
            heatmap_stride=stride,
            colour_order=usage.colour_order,
            mean=usage.mean,
            std=usage.std,
            joint_box_scale=usage.joint_box_scale,
            person_box_scale=usage.person_box_scale,
        )
    except ValueError as error:
        message = f"{usage.source}: {error}"
        raise BadInputError(message) from error
    name = usage.name or path.stem
    if not NAME.fullmatch(name):
        message = f"{usage.source}: name {name!r} cannot begin the names of files"
        raise BadInputError(message)
    return Student(
        name=name,
        network=network,
        program=program,
        config=None,
        contract=contract,
        skeleton=usage.skeleton,
        decode_rule=usage.decode_rule,
        made_by=made_by,
        licence=usage.licence,
        provenance={"file": path.name, "made_by": made_by},
        sha256=sha256_of(path),
    )


def _stride(shape: tuple[int, ...], usage: Usage, size: tuple[int, int]) -> int:
    """Check the result's shape against the contract file; gives the input pixels of a heatmap cell.

    Raises:
        BadInputError: They do not fit.
    """
    joints, wanted = usage.skeleton.count, f"{usage.skeleton.name} has {usage.skeleton.count} joints"
    fault = ""
    if len(shape) != 4 or shape[1] != joints:
        fault = f"{wanted}, so [1, {joints}, …] is needed"
    elif usage.head == "regression" and shape[3] not in (2, 3):
        fault = "coordinates are [1, K, 2 or 3]: x, y and perhaps a score"
    elif usage.head != "heatmap":
        return max(1, round(max(size) / _CELLS))
    else:
        stride = usage.heatmap_stride or size[0] // shape[2]
        if (shape[2] * stride, shape[3] * stride) == size:
            return stride
        fault = f"heatmap_stride {stride} does not take its {shape[2]}x{shape[3]} cells to {size[0]}x{size[1]} pixels"
    message = f"{usage.source}: the network gives {list(shape)} for its {usage.head} head; {fault}"
    raise BadInputError(message)
