"""What to do next follows from what did not pass."""

from lspdmobile.choices import Cause, Format, Precision, Verdict
from lspdmobile.report.inspected import DiagnosisEntry
from lspdmobile.report.schema import ArtifactEntry, Report
from lspdmobile.report.verdicts import against_lines, caveat_lines, next_lines


def failed(artifact: ArtifactEntry, **changes: object) -> ArtifactEntry:
    return artifact.model_copy(update={"verdict": Verdict.FAIL, **changes})


def told(report: Report, *artifacts: ArtifactEntry) -> str:
    return "\n".join(next_lines(report.model_copy(update={"artifacts": artifacts, "verdict": Verdict.FAIL})))


def test_int8_that_fails_may_be_repaired_and_examined(report: Report) -> None:
    lines = told(report, failed(report.artifacts[0], precision=Precision.W8A8))
    assert "--repair" in lines
    assert "lspdmobile sensitivity lspd-s" in lines


def test_float16_is_repaired_in_core_ml_alone(report: Report) -> None:
    half = failed(report.artifacts[0], precision=Precision.FP16)
    assert "--repair" in told(report, half.model_copy(update={"format": Format.COREML}))
    assert "--repair" not in told(report, half.model_copy(update={"format": Format.TFLITE}))


def test_what_else_there_is_depends_on_the_precision(report: Report) -> None:
    half, full = (
        failed(report.artifacts[0], precision=p, format=Format.TFLITE) for p in (Precision.FP16, Precision.FP32)
    )
    assert "fp32 at the widest" in told(report, half)
    assert "calibrate" not in told(report, half, full)
    assert "verify --executor" in told(report, full)


def test_a_mistake_is_mended_before_anything_is_repaired(report: Report) -> None:
    def because(cause: Cause) -> str:
        found = DiagnosisEntry(cause=cause, sentence="so it is")
        return told(report, failed(report.artifacts[0], precision=Precision.W8A8, diagnosis=found))

    assert "mend its likeliest cause (colour order)" in because(Cause.COLOUR)
    assert "--repair" not in because(Cause.COLOUR)
    assert "--repair" in because(Cause.QUANTIZATION)


def test_a_conversion_that_failed_is_mended_first(report: Report) -> None:
    assert told(report, failed(report.artifacts[0], sha256=None)).startswith("coreml fp32 could not be converted")


def test_what_could_not_be_judged_asks_for_pictures(report: Report) -> None:
    assert "more pictures" in told(report, report.artifacts[0].model_copy(update={"verdict": Verdict.NOT_JUDGED}))


def test_a_pass_is_shipped_and_core_ml_run_on_a_device(report: Report) -> None:
    artifact = report.artifacts[0].model_copy(update={"caveat": "not by Core ML"})
    passed = report.model_copy(update={"artifacts": (artifact, artifact), "verdict": Verdict.PASS})
    assert [line.split()[0] for line in next_lines(passed)] == ["Ship", "Run"]
    assert caveat_lines(passed) == ["not by Core ML"]
    assert against_lines(passed) == []


def test_each_artifact_that_did_not_pass_is_named_with_its_first_reason(report: Report) -> None:
    two = failed(report.artifacts[0], reasons=("first", "second"))
    silent = failed(report.artifacts[1], reasons=())
    found = against_lines(report.model_copy(update={"artifacts": (two, silent, report.artifacts[2])}))
    assert found == ["coreml fp32 (fail): first", "coreml fp16 (fail): no reason was given"]
