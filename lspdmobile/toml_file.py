"""TOML files that a user writes, read into a pydantic model."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lspdmobile.errors import BadInputError

__all__ = ["read_toml"]

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path, model: type[Model], *, what: str) -> Model:
    """Read and check a file.

    Args:
        path: The file.
        model: What it holds.
        what: What such a file is called, for the message where there is none.

    Raises:
        BadInputError: It is missing, not TOML or has wrong fields (all are listed).
    """
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        message = f"{path}: no such {what}"
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{path}: not a readable TOML file ({error})"
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        message = f"{path}: {faults}"
    raise BadInputError(message)
