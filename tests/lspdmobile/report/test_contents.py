from lspdmobile.artifact import ArtifactFacts, Part, TensorFacts
from lspdmobile.encodings import Encoding
from lspdmobile.operators import Grid, Operator, Value
from lspdmobile.report.contents import contents_lines

INPUT = TensorFacts(name="x", shape=(1, -1), dtype="float32", sizes="1 x 2 to 9")
OUTPUT = TensorFacts(name="y", shape=(1, 4), dtype="float32", description="scores")


def lines(**changes: object) -> list[str]:
    fields = {"inputs": (INPUT,), "outputs": (OUTPUT,), "weight_bytes_by_dtype": {}, "ops": {}}
    return list(contents_lines(ArtifactFacts(**{**fields, **changes})))  # type: ignore[arg-type]


def only(start: str, told: list[str]) -> str:
    (found,) = (line for line in told if line.startswith(start))
    return found


def test_borders_have_their_sizes_and_descriptions() -> None:
    told = lines()
    assert only("input", told) == "input   x [1, -1] float32 (1 x 2 to 9)"
    assert only("output", told) == "output  y [1, 4] float32: scores"
    assert only("weights", told) == "weights none (bytes)"


def test_parts_are_listed_and_one_is_called_the_one_described() -> None:
    parts = [
        Part(kind="method", name=str(i), inputs=(INPUT,), outputs=(), operators=2, macs=8 if i else None, main=i == 1)
        for i in range(14)
    ]
    told = lines(parts=tuple(parts))
    assert only("method 1:", told).startswith("method 1: this one is described here; 2 operators, 8 MACs; x [1, -1]")
    assert only("method 0:", told) == "method 0: 2 operators; x [1, -1] float32 (1 x 2 to 9) -> nothing"
    assert "and 2 more" in told


def test_constants_stored_alike_share_a_line_with_the_ends_of_their_shares() -> None:
    some = [
        Encoding(tensor=str(share), how=f"sparse, {share}% left out", stored="int8", read_as="float16", size_bytes=10)
        for share in (70, 60, 90)
    ]
    assert only("stored", lines(encodings=tuple(some))) == (
        "stored  3 constants as int8, read as float16 (sparse, 60 to 90% left out): 30 bytes"
    )


def test_what_is_not_counted_and_not_opened_is_said() -> None:
    value = Value(name="v", shape=(-1, 4), dtype="float32")
    operators = (
        Operator(name="a", kind="CUSTOM:X", inputs=(), outputs=(value,), counted=False),
        Operator(name="b", kind="FC", inputs=(), outputs=(value,), macs=12),
    )
    told = lines(operators=operators, ops={"FC": 1}, elsewhere={"a .ptd": 7}, unopened={"Some": 9}, undelegated="why")
    assert only("macs", told) == "macs    12; not counted: CUSTOM:X x1; lengths that are not fixed count as 1"
    assert only("outside", told).startswith("outside 7 bytes")
    assert only("opaque", told).startswith("opaque  Some: 9 bytes")
    assert only("delegate", told).endswith("on this machine: why")
    assert only("macs", lines(ops={"innerProduct": 1})) == "macs    not counted"


def test_the_heaviest_layers_are_named_shortly() -> None:
    held = {f"CONV_2D {'long/' * 40}{i}": {"int8": 100 - i} for i in range(7)}
    told = [line for line in lines(weight_bytes_by_layer=held, weight_bytes_by_dtype={"int8": 679}) if "heavy" in line]
    assert len(told) == 6
    assert told[0].startswith("heavy   100 bytes (14.7%): CONV_2D long")
    assert all(len(line) <= 100 for line in told)
    assert told[-1] == "heavy   189 bytes: 2 more"


def test_grids_by_block_are_told_apart() -> None:
    grids = (
        Grid(tensor="a", dtype="int4", scales=(1.0, 2.0), zero_points=(0,), block=(1, 32), constant=True),
        Grid(tensor="b", dtype="int8", scales=(1.0, 2.0), zero_points=(0, 0), axis=0, constant=True),
    )
    assert "1 by channel, 0 by tensor, 1 by block of 1x32" in only("grids", lines(grids=grids))
