"""A folder that is made beside its place and moved there when it is complete."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lspdmobile.errors import BadInputError

__all__ = ["refuse_existing", "replacing_folder"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_PARTIAL: Final = "partial"
_REPLACED: Final = "replaced"


@contextmanager
def replacing_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary sibling folder that takes the target's place on success and is removed on any failure.

    A process that is killed outright leaves at most hidden siblings ``.<name>.<pid>.*``, never a half-made target; the
    next run for the same target removes them, or puts back a target that was being replaced. Links are followed.

    Raises:
        BadInputError: The target exists already, holds the current folder or the user's home, or cannot be written.
    """
    try:
        place = target.resolve()
        _remove_leftovers(place)
        refuse_existing(target, overwrite=overwrite)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = _sibling(place, _PARTIAL)
        partial.mkdir()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        message = f"{target}: cannot be written ({getattr(error, 'strerror', None) or error})"
        raise BadInputError(message) from error
    try:
        yield partial
        refuse_existing(target, overwrite=overwrite)
        _swap(partial, place)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            message = f"{target}: cannot be written ({error.strerror}); free some space or choose another folder"
            raise BadInputError(message) from error
        raise


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that is there, unless it may be replaced and nothing else would go with it.

    Raises:
        BadInputError: It exists already, or holds the current folder or the user's home.
    """
    place = target.resolve()
    if not place.exists():
        return
    if not overwrite:
        message = f"{target}: already exists; choose another folder or pass --overwrite"
        raise BadInputError(message)
    if any(place in (folder, *folder.parents) for folder in (Path.cwd(), Path.home())):
        message = f"{target}: replacing it would delete the current folder or your home; choose another folder"
        raise BadInputError(message)


def _sibling(place: Path, ending: str) -> Path:
    return place.with_name(f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}.{ending}")


def _remove_leftovers(place: Path) -> None:
    """Remove siblings whose process is gone; one that held the replaced target comes back where no new one is there."""
    ours = re.compile(rf"\.{re.escape(place.name)}\.(\d+)\.[0-9a-f]+\.({_PARTIAL}|{_REPLACED})")
    for leftover in sorted(place.parent.glob(".*")):
        match = ours.fullmatch(leftover.name)
        if match is None or _is_running(int(match[1])):
            continue
        if match[2] == _REPLACED and not place.exists():
            leftover.rename(place)
        else:
            _remove(leftover)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, PermissionError)  # it runs, as another user
    return True


def _swap(partial: Path, place: Path) -> None:
    if not place.exists():
        partial.rename(place)
        return
    old = _sibling(place, _REPLACED)
    place.rename(old)
    try:
        partial.rename(place)
    except BaseException:
        old.rename(place)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
