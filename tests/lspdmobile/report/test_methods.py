"""What a report says of quantization methods."""

from lspdmobile.report.methods import MethodEntry, method_lines

BOTH = ("tflite w8a8", "executorch w8a8")


def test_methods_of_one_network_are_a_line_and_say_what_they_brought() -> None:
    entries = (
        MethodEntry(artifacts=BOTH, method="equalization", before_db=24.71, after_db=26.28, kept=True),
        MethodEntry(artifacts=BOTH, method="rounding", before_db=26.28, after_db=25.0, kept=False),
        MethodEntry(
            artifacts=("coreml w8",), method="range-tuning", before_db=None, after_db=None, kept=False, reason="no"
        ),
        MethodEntry(artifacts=("coreml w8",), method="rounding", before_db=30.0, after_db=None, kept=True),
    )
    assert method_lines(entries) == [
        "methods, tflite w8a8, executorch w8a8: equalization 24.7 -> 26.3 dB, rounding not used (26.3 -> 25.0 dB)",
        "methods, coreml w8: range-tuning not used (no), rounding 30.0 -> ∞ dB",
    ]


def test_no_methods_give_no_line() -> None:
    assert method_lines(()) == []
