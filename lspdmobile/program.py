"""Exported programs (``torch.export``, ``.pt2``): read without running anything in them, and written."""

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch
from torch.export import ExportedProgram

from lspdmobile.errors import BadInputError
from lspdmobile.weights import unpickled

__all__ = ["SUFFIX", "load_program", "note_in", "save_program"]

SUFFIX: Final = ".pt2"
_RUNS: Final = ("custom_obj_", "opaque_obj_")
_NOTE: Final = "lspdmobile.json"


def load_program(path: Path) -> ExportedProgram:
    """Read a ``.pt2`` file.

    ``torch.export.load`` falls back to executing pickles; so every pickle in the archive is first read as plain
    tensors, and an archive with anything else in it is refused.

    Raises:
        BadInputError: It is missing or damaged, holds objects that would run, or was written by another version.
    """
    if not path.is_file():
        message = f"{path}: no such file"
        raise BadInputError(message)
    try:
        _refuse_code(path)
        return torch.export.load(path)
    except BadInputError:
        raise
    except Exception as error:  # torch raises many kinds; every one means the file cannot be used
        reason = str(error).strip().splitlines() or [type(error).__name__]
        message = f"{path}: not a readable exported program ({reason[0][:160]}); write it with torch.export.save"
        raise BadInputError(message) from error


def note_in(path: Path) -> str | None:
    """Give the note that :func:`save_program` put into a ``.pt2`` file; None where there is none.

    Raises:
        BadInputError: The file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if name.endswith(f"/extra/{_NOTE}")]
            return archive.read(found[0]).decode() if found else None
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        message = f"{path}: not a readable exported program ({error}); write it with torch.export.save"
        raise BadInputError(message) from error


def save_program(program: ExportedProgram, path: Path, *, note: str | None = None) -> None:
    """Write a ``.pt2`` file, replacing it at once.

    Args:
        program: What to write.
        path: Where to.
        note: Text that goes with it.

    Raises:
        BadInputError: The file cannot be written; nothing of it is left.
    """
    partial = path.with_name(f".{path.stem}.partial{SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.export.save(program, partial, extra_files=None if note is None else {_NOTE: note})
        partial.replace(path)
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror or error})"
        raise BadInputError(message) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _refuse_code(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                entries = json.loads(archive.read(name))["config"].values()
                if any(entry["use_pickle"] or entry["path_name"].startswith(_RUNS) for entry in entries):
                    message = f"{path}: {name} holds pickled objects, which are never executed; export plain tensors"
                    raise BadInputError(message)
            elif name.endswith(".pt"):
                try:
                    unpickled(io.BytesIO(archive.read(name)), "cpu")
                except Exception as error:
                    message = f"{path}: {name} holds more than tensors, and nothing in it was executed; export again"
                    raise BadInputError(message) from error
