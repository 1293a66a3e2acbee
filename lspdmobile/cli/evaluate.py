"""``lspdmobile evaluate``: the task metric of a student or an artifact on a labelled set."""

from typing import Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import ArchArgsOpt, ArchOpt, ContractOpt, DataOpt, JsonOpt, ThreadsOpt, VerboseOpt
from lspdmobile.cli.terminal import working
from lspdmobile.errors import BadInputError

__all__ = ["evaluate"]


@app.command()
def evaluate(
    subject: Annotated[str, typer.Argument(metavar="STUDENT|ARTIFACT", help="Student or exported file.")],
    *,
    data: DataOpt = None,
    flip_test: Annotated[bool, typer.Option("--flip-test", help="Average with the mirrored picture.")] = False,
    threads: ThreadsOpt = 1,
    arch: ArchOpt = None,
    arch_args: ArchArgsOpt = None,
    contract: ContractOpt = None,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Score keypoints against labels: PCK by torso, head and box, OKS-AP, and PCK by condition, as the labels allow.

    [bold]Example:[/bold] lspdmobile evaluate lspd-s --data lspet/ --json
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.data.bundled import bundled_pictures
        from lspdmobile.data.views import load_views
        from lspdmobile.parity import condition_groups, condition_scores
        from lspdmobile.parity import evaluate as score
        from lspdmobile.predictor import open_predictor
        from lspdmobile.report.conditions import conditions_table
        from lspdmobile.report.tables import metric_line, metrics_table

        predictor = open_predictor(subject, arch=arch, arch_args=arch_args, contract=contract, threads=threads)
        terminal.progress("read pictures", 0, 1)
        views = load_views(data or bundled_pictures(), predictor.contract, predictor.skeleton)
        if not views.persons:
            message = f"{views.source}: has no labels to score against; give a folder with annotations/*.json"
            raise BadInputError(message)
        points = predictor.keypoints(
            views, flip_test=flip_test, progress=lambda done, total: terminal.progress("run", done, total)
        )
        scores = score(points, views.persons, predictor.skeleton)
        groups = condition_groups(views.persons, predictor.skeleton, views.pixels)
        by_condition = condition_scores(scores, groups)
        terminal.close()
        if json:
            terminal.show_json({**scores.to_dict(), "per_condition": by_condition})
            return
        source = "bundled pictures" if data is None else str(data)
        terminal.show(
            f"{predictor.name} on {source}: {scores.images} pictures, {scores.persons} persons",
            metrics_table(scores.metrics, scores.per_joint),
            metric_line({name: value for name, value in scores.metrics.items() if name not in scores.per_joint}),
            conditions_table(by_condition),
        )
