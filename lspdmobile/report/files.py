"""What ``report.json`` and ``manifest.json`` have in common: how they are modelled, written and read."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from lspdmobile.errors import BadInputError

__all__ = ["Entry", "File", "Number", "read_file"]


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number, or null where there is none."""


class Entry(BaseModel):
    """Base of everything in the files: frozen, keeps unknown keys."""

    model_config = ConfigDict(frozen=True, extra="allow")


class File(Entry):
    """A whole JSON file."""

    def write(self, path: Path) -> None:
        """Write as JSON with keys in declared order and a trailing newline."""
        fields = self.model_dump(mode="json", by_alias=True)
        path.write_text(json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


T = TypeVar("T", bound=File)


def read_file(path: Path, model: type[T], *, version: int) -> T:
    """Read and check one of our JSON files.

    Raises:
        BadInputError: One line that names the file and its first fault.
    """
    fields = _json_object(path)
    found = fields.get("schema_version")
    if found != version:
        message = f"{path}: schema_version is {found!r}, this lspdmobile reads {version}; export again"
        raise BadInputError(message)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{path}: {where}: {first['msg']} ({error.error_count()} faults in all); export again"
        raise BadInputError(message) from error


def _json_object(path: Path) -> Mapping[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror or error}); give the folder of a finished run"
        raise BadInputError(message) from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"{path}: not JSON ({error}); export again"
        raise BadInputError(message) from error
    if not isinstance(fields, dict):
        message = f"{path}: not a JSON object; export again"
        raise BadInputError(message)
    return fields
