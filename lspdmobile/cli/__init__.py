"""The command line: parse, call the library, print. The imports below are the list of commands."""

import sys
import traceback
from typing import NoReturn

from lspdmobile.siblings import check_siblings

check_siblings()

from lspdmobile.cli.app import app  # noqa: E402 - siblings first
from lspdmobile.cli.benchmark import benchmark  # noqa: E402
from lspdmobile.cli.demo import demo  # noqa: E402
from lspdmobile.cli.diff import diff  # noqa: E402
from lspdmobile.cli.doctor import doctor  # noqa: E402
from lspdmobile.cli.evaluate import evaluate  # noqa: E402
from lspdmobile.cli.export import export  # noqa: E402
from lspdmobile.cli.fuse import fuse  # noqa: E402
from lspdmobile.cli.inspect import inspect  # noqa: E402
from lspdmobile.cli.interrupt import listen  # noqa: E402
from lspdmobile.cli.jitter import jitter  # noqa: E402
from lspdmobile.cli.manifest import manifest  # noqa: E402
from lspdmobile.cli.predict import predict  # noqa: E402
from lspdmobile.cli.sensitivity import sensitivity  # noqa: E402
from lspdmobile.cli.students import students  # noqa: E402
from lspdmobile.cli.train import train  # noqa: E402
from lspdmobile.cli.verify import verify  # noqa: E402
from lspdmobile.errors import LspdmobileError  # noqa: E402

__all__ = ["app", "main"]

_SEVERAL = (
    benchmark,
    demo,
    diff,
    doctor,
    evaluate,
    export,
    fuse,
    inspect,
    jitter,
    manifest,
    predict,
    sensitivity,
    students,
    train,
    verify,
)
_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit with the documented code."""
    listen()
    try:
        app()
    except LspdmobileError as error:
        _fail(error.exit_code, str(error))
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:  # Typer ends the process itself, after an interrupt without a word
        if stop.code == _INTERRUPTED:
            _interrupted()
        raise
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(2, f"{where}{error.strerror or error}")
    except Exception as error:  # the last resort: exit code 1 and what to send us
        traceback.print_exc()
        _fail(1, f"internal error: {type(error).__name__}: {error}; please report it with the lines above")
    sys.exit(0)


def _interrupted() -> NoReturn:
    # An interrupt that passed through an exec of source text (torch does that) makes ``python -m`` end itself by a
    # signal whatever code we give; another exec clears CPython's mark.
    exec("")
    _fail(_INTERRUPTED, "interrupted; nothing half-made was left behind")


def _fail(code: int, message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201 - the command line's one error line
    sys.exit(code)
