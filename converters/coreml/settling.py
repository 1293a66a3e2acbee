"""A package as saved made reproducible, with its metadata: no date, no random identifiers, maps in a fixed order."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from converters.coreml.mil.package import specification_path

__all__ = ["settle"]

_DESCRIPTION_KEYS: Final = {
    "author": "author",
    "license": "license",
    "licence": "license",
    "version": "versionString",
    "short_description": "shortDescription",
}
_DATE_KEY: Final = "com.github.apple.coremltools.conversion_date"
_DEBUG_FILE: Final = "executorch_debug_handle_mapping.json"


def settle(path: Path, metadata: Mapping[str, str]) -> None:
    """Write the metadata, also to inputs and outputs, and take out what differs from one emission to the next."""
    from coremltools.proto import Model_pb2

    file = specification_path(path)
    model = Model_pb2.Model.FromString(file.read_bytes())
    model.description.metadata.userDefined.pop(_DATE_KEY, None)
    for key, text in metadata.items():
        if key in _DESCRIPTION_KEYS:
            setattr(model.description.metadata, _DESCRIPTION_KEYS[key], text)
        else:
            model.description.metadata.userDefined[key] = text
    for feature in (*model.description.input, *model.description.output):
        feature.shortDescription = metadata.get(f"{feature.name}_description", feature.shortDescription)
    file.write_bytes(model.SerializeToString(deterministic=True))
    file.chmod(0o644)
    (path / _DEBUG_FILE).unlink(missing_ok=True)
    _rename_items(path / "Manifest.json")


def _rename_items(manifest: Path) -> None:
    """Give the package's items identifiers that follow from their paths.

    Core ML Tools write this file anew whenever they open a package, sorted: sorted already, no byte of it changes.
    """
    content = json.loads(manifest.read_text(encoding="utf-8"))
    names = {old: str(uuid5(NAMESPACE_URL, item["path"])) for old, item in content["itemInfoEntries"].items()}
    content["itemInfoEntries"] = {names[old]: item for old, item in content["itemInfoEntries"].items()}
    content["rootModelIdentifier"] = names[content["rootModelIdentifier"]]
    manifest.write_text(json.dumps(content, indent=4, sort_keys=True) + "\n", encoding="utf-8")
