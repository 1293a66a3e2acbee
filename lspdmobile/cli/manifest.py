"""``lspdmobile manifest``: sign a run, and check its signature and hashes."""

from pathlib import Path
from typing import Annotated, Final

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt
from lspdmobile.cli.terminal import relative, working
from lspdmobile.errors import GateFailedError

__all__ = ["manifest", "sign", "verify"]

manifest: Final = typer.Typer(help="Sign a run's manifest; check signature and hashes.", no_args_is_help=True)
app.add_typer(manifest, name="manifest")

RunArg = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="What export left.")]


@manifest.command()
def sign(
    run_dir: RunArg, *, key: Annotated[Path, typer.Option("--key", help="Private Ed25519 key, PEM, no password.")]
) -> None:
    """Write manifest.json.sig: the key's signature of the manifest, which holds the hash of every file.

    Keys: openssl genpkey -algorithm ed25519 -out key.pem

    [bold]Example:[/bold] lspdmobile manifest sign runs/demo --key key.pem
    """
    with working(verbose=False) as terminal:
        from lspdmobile.signing import sign as run

        terminal.show(f"signed: {relative(run(run_dir, key))}")


@manifest.command()
def verify(
    run_dir: RunArg,
    *,
    key: Annotated[Path, typer.Option("--key", help="Public Ed25519 key, PEM.")],
    json: JsonOpt = False,
) -> None:
    """Check who signed a run, and that every file is the one that was signed; nothing is executed.

    The public half: openssl pkey -in key.pem -pubout -out pub.pem

    [bold]Example:[/bold] lspdmobile manifest verify runs/demo --key pub.pem
    """
    with working(verbose=False) as terminal:
        from lspdmobile.report.manifest import read_manifest
        from lspdmobile.run_folder import MANIFEST
        from lspdmobile.signing import check_signature
        from lspdmobile.verify import tampered_with

        check_signature(run_dir, key)
        listed = read_manifest(run_dir / MANIFEST)
        faults = [f"{name} {fault}" for name, fault in tampered_with(run_dir, listed).items()]
        if faults:
            more = f" ({len(faults)} files in all)" if len(faults) > 1 else ""
            message = f"{run_dir}: {faults[0]}{more}"
            raise GateFailedError(message)
        if json:
            terminal.show_json({"signed": True, "files": len(listed.files)})
            return
        terminal.show(f"signed by the owner of {relative(key)}; all {len(listed.files)} files are the signed ones")
