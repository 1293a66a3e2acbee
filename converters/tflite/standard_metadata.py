"""What the format's own readers find in a ``.tflite`` file: the ``TFLITE_METADATA`` buffer and the files packed behind.

Android's ``MetadataExtractor`` and code generator and Python's ``MetadataDisplayer`` read them: what the picture has to
be (colour order, size, mean and standard deviation in grey levels), the joints' names in the order of the heatmaps
(``joints.txt``), and every entry of ours (``lspdmobile.json``). The packed files are a ZIP archive at the file's end.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from converters.tflite.flatbuffer import metadata_buffers
from converters.tflite.metadata_schema import decoded, encoded
from lspdmobile.preprocess import PreprocessContract

__all__ = ["JOINTS", "NAME", "OURS", "TEXTS", "descriptions", "read_metadata", "standard_metadata", "with_files"]

NAME: Final = "TFLITE_METADATA"
OURS: Final = "lspdmobile"
"""Name of the buffer that holds our text entries as one JSON object."""
JOINTS: Final = "joints.txt"
TEXTS: Final = "lspdmobile.json"
_PARSER: Final = "1.0.0"
"""The version of the schema that the fields written here came with."""
_RGB: Final = 1
_DESCRIPTIONS: Final = 1
_TENSOR_AXIS_LABELS: Final = 2
_MODEL_FIELDS: Final = {
    "student": "name",
    "short_description": "description",
    "version": "version",
    "author": "author",
    "license": "license",
}
_GREY_LEVELS: Final = 255.0
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def standard_metadata(entries: Mapping[str, str], outputs: Sequence[str]) -> tuple[bytes, dict[str, bytes]]:
    """Say in the format's own words what our text entries say.

    Args:
        entries: As ``EmitRequest.metadata`` has them; what is not among them is left out.
        outputs: Names of the file's outputs, the heatmaps first.

    Returns:
        The buffer, and the files to pack by name.

    Raises:
        BadInputError: The preprocess contract among the entries cannot be used.
    """
    joints = json.loads(entries["skeleton"]).get("keypoints", ()) if "skeleton" in entries else ()
    files = {TEXTS: (json.dumps(dict(entries), ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()}
    described = [_described(name, entries) for name in outputs]
    if joints:
        files[JOINTS] = "".join(f"{joint}\n" for joint in joints).encode()
        label = {"name": JOINTS, "description": "one joint to a line", "type": _TENSOR_AXIS_LABELS}
        described[0]["associated_files"] = [label]
    graph = {"input_tensor_metadata": [_input(entries)], "output_tensor_metadata": described}
    fields = {field: entries[key] for key, field in _MODEL_FIELDS.items() if key in entries}
    said = {"name": TEXTS, "description": "all entries of lspdmobile as JSON", "type": _DESCRIPTIONS}
    model = {**fields, "subgraph_metadata": [graph], "associated_files": [said], "min_parser_version": _PARSER}
    return encoded(model), files


def _described(name: str, entries: Mapping[str, str]) -> dict[str, Any]:
    text = entries.get(f"{name}_description")
    return {"name": name, **({"description": text} if text else {})}


def _input(entries: Mapping[str, str]) -> dict[str, Any]:
    """Describe the picture: mean and standard deviation in grey levels, as every reader of the format expects them."""
    described = _described("input", entries)
    if "preprocess" not in entries:
        return described
    contract = PreprocessContract.from_dict(json.loads(entries["preprocess"]))
    rows, columns = contract.input_size
    size = {"width": columns, "height": rows}
    image = {"default_size": size, **({"color_space": _RGB} if contract.colour_order == "rgb" else {})}
    scale = {
        "mean": [_GREY_LEVELS * value for value in contract.mean],
        "std": [_GREY_LEVELS * value for value in contract.std],
    }
    low, high = ([(end - m) / s for m, s in zip(contract.mean, contract.std, strict=True)] for end in (0, 1))
    return {
        **described,
        "content": {"content_properties": {"ImageProperties": image}},
        "process_units": [{"options": {"NormalizationOptions": scale}}],
        "stats": {"max": high, "min": low},
    }


def with_files(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """Pack files behind a model, uncompressed and undated, so that the same files are the same bytes."""
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return stream.getvalue()


def read_metadata(path: Path, model: Any) -> dict[str, str]:
    """Give our entries, those of other tools that are plain text, the format's own as JSON, and the files packed.

    Files that the format's own metadata name and that are not there, because the file was cut short or rewritten, are
    listed as missing: the model runs without them.
    """
    others: dict[str, str] = {}
    buffers = metadata_buffers(model)
    ours = {str(k): str(v) for k, v in json.loads(buffers.pop(OURS, b"{}")).items()}
    for name, content in buffers.items():
        text = json.dumps(standard, ensure_ascii=False) if (standard := _standard(name, content)) else _text(content)
        if text is not None:
            others[name] = text
    files = _packed(path)
    lost = [f"{name} (missing)" for name in _recorded(_standard(NAME, buffers.get(NAME, b""))) if name not in files]
    if files or lost:
        others["associated_files"] = ", ".join((*files, *sorted(lost)))
    return {**others, **ours}


def descriptions(model: Any, side: str, names: Sequence[str]) -> list[str]:
    """Give what the format's own metadata says of the ``"input"`` or ``"output"`` tensors; empty texts else.

    Readers of the format go by position, and the names in the metadata need not be the file's own. Where all are, and
    in another order, names decide.
    """
    graphs = (_standard(NAME, metadata_buffers(model).get(NAME, b"")) or {}).get("subgraph_metadata", [])
    tensors = [each for graph in graphs[:1] for each in graph.get(f"{side}_tensor_metadata", [])]
    said = {each.get("name"): each.get("description", "") for each in tensors}
    if len(tensors) == len(names) and not set(names) <= set(said):
        return [each.get("description", "") for each in tensors]
    return [said.get(name, "") for name in names]


def _standard(name: str, content: bytes) -> dict[str, Any] | None:
    """Read the format's own buffer; None for another one, or where it is damaged."""
    try:
        return decoded(content) if name == NAME else None
    except ValueError:
        return None


def _recorded(value: Any) -> Iterator[str]:
    """Find the names of associated files wherever they stand."""
    if isinstance(value, dict):
        yield from (file["name"] for file in value.get("associated_files", ()) if "name" in file)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _recorded(inner)


def _packed(path: Path) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.namelist())
    except zipfile.BadZipFile:
        return ()


def _text(content: bytes) -> str | None:
    """Decode a buffer, or give None where it is not printable text."""
    try:
        text = content.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
