"""``verify``: check the hashes of a run, execute every artifact again and judge it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from converters import FORMATS, comparison, read_back
from lspdmobile.artifact import ArtifactFacts, TensorFacts, sha256_of
from lspdmobile.artifact_metadata import metadata_of
from lspdmobile.choices import Verdict
from lspdmobile.data.bundled import bundled_pictures
from lspdmobile.data.views import Views, load_views
from lspdmobile.delegation_gate import delegation_faults, judged_with
from lspdmobile.deviation import Deviation
from lspdmobile.diagnosing import diagnosed
from lspdmobile.diagnosis import Cause, Diagnosis, misdescribed, misshapen
from lspdmobile.errors import BadInputError, GateFailedError, LspdmobileError
from lspdmobile.fusion import Fused
from lspdmobile.measuring import Comparison, Progress, Reference, decoding_error, measure, reference_of, with_decoding
from lspdmobile.opening import open_student
from lspdmobile.parity import Gate, judge
from lspdmobile.plans import PLAN, SavedPlan
from lspdmobile.preparing import Goal, fused_for, goal_of
from lspdmobile.report.causes import likeliest_cause
from lspdmobile.report.inspected import delegation_fields
from lspdmobile.report.manifest import Manifest, read_manifest
from lspdmobile.report.schema import ArtifactEntry, DeviationEntry, DiagnosisEntry
from lspdmobile.run_folder import (
    BUNDLED,
    MANIFEST,
    SIGNATURE,
    RunReport,
    checkpoint_names,
    read_run_report,
)
from lspdmobile.second_opinions import PICTURES, Source, Witness, require_something_to_ask, second_opinions
from lspdmobile.student import Student

__all__ = ["Verification", "tampered_with", "verify"]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found now.

    Attributes:
        report: The run's report with parity, verdicts and reasons measured again.
        tampered: One sentence per file that is missing, is not listed or has another hash.
    """

    report: RunReport
    tampered: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """The run's verdict, which a file that was changed fails."""
        return Verdict.FAIL if self.tampered else self.report.verdict

    @property
    def passed(self) -> bool:
        """Whether every hash and every artifact holds."""
        return self.verdict is Verdict.PASS


@dataclass(frozen=True, kw_only=True)
class _Check:
    """What every artifact of one verification shares."""

    run: Path
    manifest: Manifest
    trusted: frozenset[str]
    reference: Reference
    gate: Gate
    min_delegated: Mapping[str, float]
    threads: int
    progress: Progress
    goals: frozenset[Goal]
    witnesses: tuple[Witness, ...]

    @cached_property
    def networks(self) -> Mapping[Goal, Fused]:
        """The student, fused for the targets of the artifacts."""
        self.progress("fuse", 0, 1)
        return fused_for(self.reference.student, sorted(self.goals))

    def plan(self, file: str) -> SavedPlan:
        """Read what an artifact was made from.

        Raises:
            BadInputError: It is not there, or damaged.
            GateFailedError: It, or its weights, are not what the manifest lists.
        """
        self._trust(PLAN)
        saved = SavedPlan.read(self.run / PLAN, file)
        if saved.weights_file is not None:
            self._trust(saved.weights_file)
        return saved

    def _trust(self, name: str) -> None:
        if name not in self.trusted:
            lost = f"{self.run / name}: is not what the manifest lists"
            message = f"{lost}, so there is nothing to compare with; export again"
            raise GateFailedError(message)


def verify(
    run: Path,
    progress: Progress,
    *,
    data: Path | None = None,
    threads: int = 1,
    witnesses: tuple[Witness, ...] = (),
) -> Verification:
    """Verify a run folder. A file whose hash does not hold is not executed.

    Args:
        run: What ``export`` left.
        progress: Told of each step.
        data: Evaluation set; None takes the one the run used.
        threads: Threads of the executors.
        witnesses: Other executors to ask about the artifacts of their formats.

    Raises:
        BadInputError: It is no run folder, it has nothing that a witness can be asked about, or the pictures it was
            judged on are gone.
        GateFailedError: The float student in it was changed, so there is nothing to compare with.
    """
    manifest, report = read_manifest(run / MANIFEST), read_run_report(run)
    require_something_to_ask(witnesses, (entry.format for entry in report.artifacts))
    faults = tampered_with(run, manifest)
    names = checkpoint_names(manifest.student)
    checkpoint = next((name for name in names if name in manifest.files), names[0])
    if checkpoint in faults or checkpoint not in manifest.files:
        message = f"{run / checkpoint}: {faults.get(checkpoint, 'is not listed in the manifest')}; export again"
        raise GateFailedError(message)
    student = open_student(str(run / checkpoint))
    views = _views(student, report, data)
    if data is None and views.sha256() != manifest.evaluation_sha256:
        faults[report.reference.data] = "are not the pictures this run was judged on (their sha256 differs)"
    check = _Check(
        run=run,
        manifest=manifest,
        trusted=frozenset(manifest.files.keys() - faults.keys()),
        reference=reference_of(student, views, progress),
        gate=report.gate.gate(),
        min_delegated=report.gate.min_delegated,
        threads=threads,
        progress=progress,
        witnesses=witnesses,
        goals=frozenset(goal_of(entry.target, entry.precision) for entry in report.artifacts if entry.target),
    )
    entries = tuple(_again(check, entry) for entry in report.artifacts)
    verdict = Verdict.overall(e.verdict for e in entries)
    again = report.model_copy(update={"artifacts": entries, "verdict": verdict})
    return Verification(
        report=again.model_copy(update={"likeliest_cause": likeliest_cause(again)}),
        tampered=tuple(f"{name}: {fault}" for name, fault in faults.items()),
    )


def tampered_with(run: Path, manifest: Manifest) -> dict[str, str]:
    """Say what is wrong with each file of a run, listed or not: missing, another one, or not listed."""
    faults: dict[str, str] = {}
    for name, listed in manifest.files.items():
        path = run / name
        if not path.exists():
            faults[name] = "is missing"
        elif sha256_of(path) != listed.sha256:
            faults[name] = "is not the file the manifest lists (its sha256 differs)"
    known = {name.split("/")[0] for name in manifest.files} | {MANIFEST, SIGNATURE}
    extra = sorted(p.name for p in run.iterdir() if p.name not in known and not p.name.startswith("."))
    return faults | dict.fromkeys(extra, "is not listed in the manifest")


def _views(student: Student, report: RunReport, data: Path | None) -> Views:
    bundled = report.reference.data == BUNDLED
    path = data or (bundled_pictures() if bundled else Path(report.reference.data))
    if not path.exists():
        message = f"{path}: the pictures this run was judged on are not here; give them with --data"
        raise BadInputError(message)
    settings = report.evaluation
    return load_views(path, student.contract, student.skeleton, limit=settings.samples, seed=settings.seed)


def _again(check: _Check, entry: ArtifactEntry) -> ArtifactEntry:
    """Execute and judge one artifact; one that could not be made then stays as it is."""
    if entry.sha256 is None:
        return entry
    if entry.file not in check.trusted:
        return _failed(entry, "not executed: it is not the file the manifest lists")
    reference, complaint, deviation = check.reference, "", None
    try:
        facts = FORMATS[entry.format].inspect(check.run / entry.file)
        if (fault := _misdescribed(check, entry.file, facts)) is not None:
            return _failed(entry, f"{entry.file}: {fault.sentence}; export again", fault)
        executor = FORMATS[entry.format].open_executor(check.run / entry.file, threads=check.threads)
        step = f"execute {entry.format} {entry.precision}"
        heatmaps, latency = measure(executor, reference.views, step, check.progress)
        decoding = decoding_error(executor, reference)
    except LspdmobileError as error:
        return _failed(entry, str(error))
    try:
        deviation = _deviation(check, entry)
    except LspdmobileError as error:
        complaint = str(error)
    found = reference.compared_with(heatmaps)
    verdict, reasons = judge(
        found.parity, found.drop, entry.precision, entry.format, deviation=deviation, gate=check.gate
    )
    diagnosis = _diagnosis(check, entry, found, deviation) if verdict is Verdict.FAIL else None
    if complaint:
        verdict, reasons = Verdict.FAIL, (complaint, *(reasons if verdict is Verdict.FAIL else ()))
    verdict, reasons = with_decoding(verdict, reasons, decoding)
    faults = delegation_faults(check.min_delegated, entry.format, facts.delegation, facts.forecasts)
    opinions = second_opinions(
        check.witnesses,
        entry,
        check.run / entry.file,
        student=check.reference.student,
        source=partial(_source, check, entry),
        pictures=check.reference.views.inputs(0, PICTURES),
        heatmaps=heatmaps,
    )
    doubts = tuple(opinion.sentence for opinion in opinions if not opinion.agrees)
    verdict, reasons = judged_with(verdict, reasons, (*faults, *doubts))
    return entry.model_copy(
        update={
            **delegation_fields(facts),
            "verdict": verdict,
            "reasons": reasons,
            "executed_by": executor.name,
            "caveat": executor.caveat,
            "latency_ms": round(latency, 3),
            "parity": reference.entry(found),
            "deviation": DeviationEntry.of(deviation) if deviation else None,
            "diagnosis": DiagnosisEntry.of(diagnosis) if diagnosis else None,
            "decode_px": decoding,
            "second_opinions": opinions,
        }
    )


def _source(check: _Check, entry: ArtifactEntry) -> Source:
    """Give what an artifact was made from.

    Raises:
        BadInputError: The report does not say which form of the network that was.
    """
    if entry.target is None:
        message = f"{entry.file}: the report does not say which target it was fused for; export again"
        raise BadInputError(message)
    saved = check.plan(entry.file)
    network = saved.network(check.networks[goal_of(entry.target, entry.precision)].network, check.run)
    return Source(network=network, plan=saved.plan)


def _misdescribed(check: _Check, file: str, facts: ArtifactFacts) -> Diagnosis | None:
    """Compare what a file says of itself with what the manifest tells apps and with the student."""
    listed = next((a for a in check.manifest.artifacts if a.file == file), None)
    if listed is None:
        return Diagnosis(cause=Cause.CONTRACT, sentence="the manifest does not list it among the artifacts")
    outputs = [listed.output, *([listed.keypoints] if listed.keypoints else [])]
    for named, inside in (([listed.input], facts.inputs), (outputs, facts.outputs)):
        wanted = tuple(TensorFacts(name=each.name, shape=each.shape, dtype=each.dtype) for each in named)
        if (fault := misshapen(wanted, inside)) is not None:
            return fault
    return misdescribed(facts, metadata_of(check.reference.student), check.manifest.checkpoint_sha256)


def _diagnosis(check: _Check, entry: ArtifactEntry, found: Comparison, deviation: Deviation | None) -> Diagnosis:
    """Name the likeliest cause, layers by the names of the network the file was made from."""
    goal = goal_of(entry.target, entry.precision) if entry.target else None
    network = check.networks[goal].network if goal else check.reference.student.network
    return diagnosed(found, check.reference, network, precision=entry.precision, deviation=deviation, gate=check.gate)


def _deviation(check: _Check, entry: ArtifactEntry) -> Deviation | None:
    """Compare the file with its plan, where that can be done."""
    which = entry.format, entry.precision, entry.backend
    compare = comparison(*which) or read_back(*which)
    if compare is None:
        return None
    source, pictures = _source(check, entry), check.reference.few_inputs()
    try:
        return compare(check.run / entry.file, network=source.network, plan=source.plan, pictures=pictures)
    except RuntimeError as error:  # PyTorch's, where the file's tensors do not fit the plan's network
        message = f"{entry.file}: cannot be compared with its plan, its tensors are of other shapes; export again"
        raise BadInputError(message) from error


def _failed(entry: ArtifactEntry, reason: str, diagnosis: Diagnosis | None = None) -> ArtifactEntry:
    named = DiagnosisEntry.of(diagnosis) if diagnosis else None
    return entry.model_copy(update={"verdict": Verdict.FAIL, "reasons": (reason,), "parity": None, "diagnosis": named})
