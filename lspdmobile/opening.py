"""Every kind of student behind one function, and back into a file.

Ours are ``.safetensors`` files, or state dicts of a preset. Any other network is an exported program (``.pt2``), or a
state dict with the factory of its module, and a contract file; once written by :func:`write_student` it is a ``.pt2``
file that carries what the contract file said.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from lspdmobile.artifact import sha256_of
from lspdmobile.decode import DECODE_RULES
from lspdmobile.errors import BadInputError
from lspdmobile.foreign import factory_arguments, student_of_factory, student_of_program
from lspdmobile.fusion.graph import capture
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.program import SUFFIX, load_program, note_in, save_program
from lspdmobile.skeleton import Skeleton
from lspdmobile.student import Student, load_student, save_student
from lspdmobile.usage import read_usage

__all__ = ["open_student", "write_student"]

_SCHEMA_VERSION: Final = 1


def open_student(
    source: str, *, arch: str | None = None, arch_args: str | None = None, contract: Path | None = None
) -> Student:
    """Open a bundled student, a checkpoint of ours, or any network with its contract file.

    Args:
        source: Bundled name, or path of a ``.safetensors``, ``.pth``, ``.pt`` or ``.pt2`` file.
        arch: Of a state dict: a preset, or ``package.module:factory``.
        arch_args: What the factory is called with; see :func:`lspdmobile.foreign.factory_arguments`.
        contract: Contract file of a network that was not made here.

    Raises:
        BadInputError: It cannot be read, does not fit, or something that is needed was not given.
    """
    path, outside = Path(source), arch is not None and ":" in arch
    if arch_args is not None and not outside:
        message = "--arch-args are what a factory is called with: name one with --arch package.module:factory"
        raise BadInputError(message)
    if not outside and path.suffix != SUFFIX:
        if contract is not None:
            message = f"--contract: {source} has its contract inside; it is for .pt2 files and --arch module:factory"
            raise BadInputError(message)
        return load_student(source, arch=arch)
    if not path.is_file():
        message = f"{path}: no such file"
        raise BadInputError(message)
    if path.suffix == SUFFIX and contract is None and (note := note_in(path)) is not None:
        return _noted(path, note)
    if contract is None:
        lacks = "does not say how pictures become its input and which joints it finds"
        message = f"{path}: {lacks}; give --contract FILE (docs/bring_your_own.md)"
        raise BadInputError(message)
    usage = read_usage(contract)
    if path.suffix == SUFFIX:
        return student_of_program(path, usage)
    assert arch is not None
    return student_of_factory(path, arch, factory_arguments(arch_args or ""), usage)


def write_student(student: Student, path: Path) -> None:
    """Write a student: ours as ``.safetensors``, any other network as a program with what its contract file said.

    Raises:
        BadInputError: The file cannot be written; nothing of it is left.
    """
    if student.config is not None:
        save_student(student, path)
        return
    note = {
        "schema_version": _SCHEMA_VERSION,
        "name": student.name,
        "contract": student.contract.to_dict(),
        "skeleton": student.skeleton.to_dict(),
        "decode_rule": student.decode_rule,
        "made_by": student.made_by,
        "licence": student.licence,
        "provenance": dict(student.provenance),
        "metrics": dict(student.metrics),
    }
    program = student.program
    if program is None:
        with torch.no_grad():
            program = torch.export.export(student.network, (torch.zeros(1, 3, *student.contract.input_size),))
    save_program(program, path, note=json.dumps(note, sort_keys=True))


def _noted(path: Path, note: str) -> Student:
    """Open a program that :func:`write_student` wrote."""
    program = load_program(path)
    try:
        fields: dict[str, Any] = json.loads(note)
        _check_note(fields.pop("schema_version"), fields["decode_rule"])
        contract, skeleton = (fields.pop(key) for key in ("contract", "skeleton"))
        student = Student(
            network=capture(program).module,
            program=program,
            config=None,
            contract=PreprocessContract.from_dict(contract),
            skeleton=Skeleton.from_dict(skeleton),
            **fields,
        )
    except (BadInputError, KeyError, TypeError, ValueError) as error:
        message = f"{path}: what it says of its own use cannot be read ({error}); give --contract FILE"
        raise BadInputError(message) from error
    return replace(student, sha256=sha256_of(path))


def _check_note(schema: Any, rule: Any) -> None:
    if schema != _SCHEMA_VERSION or rule not in DECODE_RULES:
        message = f"schema {schema!r}, decode rule {rule!r}"
        raise BadInputError(message)
