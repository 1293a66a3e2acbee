"""What the benchmark scripts share: a script's frame."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console, RenderableType

from lspdmobile.cli.terminal import working
from lspdmobile.errors import LspdmobileError

_WIDTH: Final = 200
"""Columns of what is written to a file, where a terminal's width would cut tables off."""


def printed(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Any],
    show: Callable[[Any], RenderableType],
) -> tuple[Any, int]:
    """Measure and print, as JSON where ``options.json`` is set.

    Returns:
        What was measured (None where that failed), and the exit code.
    """
    try:
        with working(verbose=False):
            found = measure(options)
    except LspdmobileError as error:
        print(f"error: {error}", file=sys.stderr)
        return None, error.exit_code
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else _WIDTH).print(show(found))
    return found, 0
