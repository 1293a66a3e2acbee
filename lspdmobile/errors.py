"""Every error a user can cause, each with the exit code the command line returns.

    LspdmobileError            exit 1  (never raised itself)
    ├── BadInputError          exit 2  wrong usage or bad input
    ├── GateFailedError        exit 3  the gate, a certificate or a hash check failed
    ├── ConversionError        exit 4  a conversion or an execution of an artifact failed
    └── EnvironmentLacksError  exit 5  something has to be installed

A message is one line that says what, where and how to mend it. Programmer mistakes raise ValueError or TypeError.
"""

from typing import ClassVar

__all__ = [
    "BadInputError",
    "ConversionError",
    "EnvironmentLacksError",
    "GateFailedError",
    "LspdmobileError",
]


class LspdmobileError(Exception):
    """Base of everything a user can cause."""

    exit_code: ClassVar[int] = 1


class BadInputError(LspdmobileError):
    """A file, folder, option or number the user gave cannot be used."""

    exit_code: ClassVar[int] = 2


class GateFailedError(LspdmobileError):
    """The work was done and the result must not ship."""

    exit_code: ClassVar[int] = 3


class ConversionError(LspdmobileError):
    """A runtime's converter or executor could not handle the network."""

    exit_code: ClassVar[int] = 4


class EnvironmentLacksError(LspdmobileError):
    """A package or an operating system this job needs is absent."""

    exit_code: ClassVar[int] = 5
