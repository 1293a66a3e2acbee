"""The three packages of one installation belong together; ``converters`` and ``quantization`` are common names.

A folder ``converters/`` in the working directory, or another distribution that ships one, would be imported in place
of ours and fail somewhere far away (docs/adr/0001-top-level-packages.md).
"""

from importlib.util import find_spec
from pathlib import Path

__all__ = ["check_siblings"]


def check_siblings() -> None:
    """Raise unless ``converters`` and ``quantization`` are the ones installed beside this package.

    Raises:
        ImportError: Another package of that name comes first on the path, or none is found; names both places.
    """
    home = Path(__file__).resolve().parent
    for name in ("converters", "quantization"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != home.with_name(name):
            message = (
                f"lspdmobile is at {home} and its package {name!r} should be beside it, but Python finds "
                f"{found or 'none'}; start from another folder, or install lspdmobile into an environment of its own"
            )
            raise ImportError(message)
