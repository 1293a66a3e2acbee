"""Our reader and writer of the packed folder against ExecuTorch's own, which is native code."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.executorch_coreml.memory_files import packed, unpacked

FILES = {
    "metadata.json": b'{"a": "}{"}',
    "model.mlpackage/Manifest.json": b"{}",
    "model.mlpackage/Data/com.apple.CoreML/model.mlmodel": bytes(range(256)) * 5,
    "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin": b"\xff\x00}" * 1000,
}


@pytest.fixture
def native() -> Any:
    from executorch.backends.apple.coreml import executorchcoreml

    return executorchcoreml


def on_disk(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def blob_of(nodes: list[dict[str, Any]], data: bytes = b"") -> bytes:
    return data + json.dumps({"nodes": nodes}).encode()[::-1]


def file_node(name: str, offset: int = 0, size: int = 0) -> dict[str, Any]:
    return {"name": name, "kind": 0, "dataRegion": {"offset": offset, "size": size}, "children": {}}


def folder_node(**children: int) -> dict[str, Any]:
    return {"name": "root", "kind": 1, "dataRegion": {"offset": 0, "size": 0}, "children": children}


def test_what_executorch_packs_is_read(native: Any, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert unpacked(native.flatten_directory_contents(str(tmp_path))) == FILES


def test_what_we_pack_executorch_reads(native: Any, tmp_path: Path) -> None:
    files = {**FILES, "model.mlpackage/Data/empty": b""}  # its own packer ends the process on an empty file
    native.unflatten_directory_contents(packed(files), str(tmp_path))
    assert on_disk(tmp_path / "lowered_module") == files


def test_equal_files_give_equal_blobs_in_whatever_order() -> None:
    assert packed(FILES) == packed(dict(reversed(FILES.items())))


PATHS = st.builds("{}{}".format, st.sampled_from(["", "a/", "b/", "a/b/"]), st.sampled_from(["X", "Y Z", "W.w"]))


@given(st.dictionaries(PATHS, st.binary(max_size=40)))
def test_packing_loses_nothing(files: dict[str, bytes]) -> None:
    assert unpacked(packed(files)) == files


def test_gaps_for_alignment_are_skipped() -> None:
    nodes = [file_node("a", 0, 2), file_node("b", 64, 1), folder_node(a=0, b=1)]
    assert unpacked(blob_of(nodes, b"xy" + bytes(62) + b"z" + bytes(63))) == {"a": b"xy", "b": b"z"}


@pytest.mark.parametrize("keep", [0, 1, 10, 1000, -1, -40])
def test_a_blob_that_is_cut_short_is_an_error(keep: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        unpacked(packed(FILES)[:keep])


@pytest.mark.parametrize(
    ("nodes", "fault"),
    [
        ([file_node("a", 0, 9), folder_node(a=0)], "a is cut short"),
        ([file_node("a", -1, 1), folder_node(a=0)], "a is cut short"),
        ([file_node("a"), folder_node(**{"..": 0})], "names a file '..'"),
        ([file_node("a"), folder_node(**{"../../etc/cron": 0})], "names a file"),
        ([file_node("a"), folder_node(**{"/tmp/a": 0})], "names a file"),
        ([folder_node(a=0)], "in two places"),
        ([file_node("a"), folder_node(a=0, b=0)], "in two places"),
        ([file_node("a"), folder_node(a=7)], "in two places"),
        ([], "in two places"),
        ([{"name": "a", "kind": 0}], "makes no sense"),
    ],
)
def test_a_list_that_leads_astray_is_an_error(nodes: list[dict[str, Any]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        unpacked(blob_of(nodes, b"12345678"))


@pytest.mark.parametrize("text", [b"[1]", b"{}", b'{"nodes": 3}', b"12", b"null"])
def test_another_json_text_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        unpacked(text[::-1])
