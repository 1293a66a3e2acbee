"""``lspdmobile fuse``: fusion alone, with its certificate."""

import json as json_lib
from pathlib import Path
from typing import Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import ArchOpt, JsonOpt, OverwriteOpt, SeedOpt, StudentArg, VerboseOpt
from lspdmobile.cli.terminal import relative, working

__all__ = ["fuse"]


@app.command()
def fuse(
    student: StudentArg,
    *,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder to make.")] = Path("runs/fuse"),
    seed: SeedOpt = 0,
    arch: ArchOpt = None,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Fold norms and merge linear branches exactly; write the fused weights and the certificate.

    [bold]Example:[/bold] lspdmobile fuse lspd-s -o runs/fuse
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.artifact import replacing_folder
        from lspdmobile.fusion import fuse as run
        from lspdmobile.run_folder import refuse_to_replace_others
        from lspdmobile.student import load_student, write_weights

        loaded = load_student(student, arch=arch)
        if overwrite:
            refuse_to_replace_others(output_dir, marker="fusion.json")
        terminal.progress("fuse", 0, 1)
        with replacing_folder(output_dir, overwrite=overwrite) as folder:
            fused = run(loaded.network, input_size=loaded.contract.input_size, seed=seed)
            certificate = fused.certificate.to_dict()
            write_weights(fused.network, folder / f"{loaded.name}_fused.safetensors")
            text = json_lib.dumps(certificate, indent=2) + "\n"
            (folder / "fusion.json").write_text(text, encoding="utf-8")
        terminal.close()
        if json:
            terminal.show_json(certificate)
            return
        before, after = fused.certificate.before, fused.certificate.after
        terminal.show(
            fused.certificate.summary,
            f"params {before.params:,} -> {after.params:,}, MACs {before.macs:,} -> {after.macs:,}",
            f"certificate: {relative(output_dir / 'fusion.json')}",
        )
