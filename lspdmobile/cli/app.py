"""The Typer application every command registers with."""

from typing import Annotated, Final

import typer

from lspdmobile import __version__

__all__ = ["about", "app"]

app: Final = typer.Typer(
    name="lspdmobile",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done and passed, 1 internal error, 2 wrong usage or bad input, 3 the gate failed, "
    "4 a conversion failed, 5 the environment lacks something.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lspdmobile {__version__}")
        raise typer.Exit


@app.callback()
def about(
    *, version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False
) -> None:
    """Turn a trained human-pose student into Core ML, TFLite and ExecuTorch files, and prove nothing was lost."""
