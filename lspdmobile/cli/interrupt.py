"""Interrupts that are not lost: libraries may swallow the exception, the wish to stop stays."""

import signal
from typing import Any, NoReturn

__all__ = ["listen", "stop_if_asked"]

_asked = False


def listen() -> None:
    """Turn SIGINT and SIGTERM into ``KeyboardInterrupt`` from here on."""
    global _asked  # noqa: PLW0603 - a signal handler has nowhere else to leave word
    _asked = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)


def stop_if_asked() -> None:
    """Raise ``KeyboardInterrupt`` again where one was swallowed; to be called between steps."""
    if _asked:
        raise KeyboardInterrupt


def _interrupted(*_: Any) -> NoReturn:
    global _asked  # noqa: PLW0603
    _asked = True
    raise KeyboardInterrupt
