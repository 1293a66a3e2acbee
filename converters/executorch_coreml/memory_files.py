"""The folder that ExecuTorch's Core ML backend packs into one blob, read and written.

Layout, as the runtime's ``inmemoryfs`` has it: the bytes of all files one after the other, then a JSON text **written
backwards**, so that its start is the blob's last byte. The text lists nodes, children before their parent and the root
last: ``{"nodes": [{"name", "kind", "dataRegion": {"offset", "size"}, "children": {name: index}}]}``; kind 0 is a file,
1 a folder. Files may be aligned, with a gap before each.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["packed", "unpacked"]

_FILE: Final = 0
_FOLDER: Final = 1
_ROOT: Final = "lowered_module"
_NO_NAMES: Final = ("", ".", "..")


def unpacked(blob: bytes) -> dict[str, bytes]:
    """Give the files of a blob: path below the root, with forward slashes, to content.

    Raises:
        ValueError: The blob is damaged or cut short, or names a file outside of its folder.
    """
    # Latin-1 keeps every byte a character, and the text ends where its outermost brace closes.
    document, length = json.JSONDecoder().raw_decode(blob[::-1].decode("latin-1"))
    try:
        nodes = document["nodes"]
        tree = _Tree(nodes=nodes, data=memoryview(blob)[: len(blob) - length], unvisited=set(range(len(nodes))))
        return dict(tree.files(len(nodes) - 1, ""))
    except (LookupError, TypeError, AttributeError) as error:
        message = f"its list of files makes no sense ({type(error).__name__})"
        raise ValueError(message) from error


def packed(files: Mapping[str, bytes]) -> bytes:
    """Pack files into a blob, without gaps and in the order of their names, so that equal files give equal blobs.

    Args:
        files: Path with forward slashes to content; ASCII names.
    """
    tree: dict[str, Any] = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        below = tree
        for folder in folders:
            below = below.setdefault(folder, {})
        below[name] = content
    writer = _Writer()
    writer.add(_ROOT, tree)
    text = json.dumps({"nodes": writer.nodes}, separators=(",", ":"), sort_keys=True)
    return bytes(writer.data) + text.encode("ascii")[::-1]


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """Nodes, the bytes before them, and the nodes not seen yet: each has one parent at most."""

    nodes: list[dict[str, Any]]
    data: memoryview
    unvisited: set[int]

    def files(self, index: int, path: str) -> Iterator[tuple[str, bytes]]:
        """Yield the files at and below a node."""
        if index not in self.unvisited:
            message = "a file of it is in two places"
            raise ValueError(message)
        self.unvisited.remove(index)
        node = self.nodes[index]
        if node["kind"] == _FILE:
            yield path, self._content(node["dataRegion"], path)
            return
        for name, child in node["children"].items():
            if name in _NO_NAMES or not name.isprintable() or any(mark in name for mark in "/\\:"):
                message = f"it names a file {name!r}"
                raise ValueError(message)
            yield from self.files(child, f"{path}/{name}" if path else name)

    def _content(self, region: Mapping[str, int], path: str) -> bytes:
        start, size = region["offset"], region["size"]
        if min(start, size) < 0 or start + size > len(self.data):
            message = f"{path} is cut short"
            raise ValueError(message)
        return bytes(self.data[start : start + size])


@dataclass(kw_only=True)
class _Writer:
    """Nodes and bytes written so far."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def add(self, name: str, item: bytes | dict[str, Any]) -> int:
        """Write a file or a folder, its children first; gives its index."""
        node: dict[str, Any] = {"name": name, "children": {}, "dataRegion": {"offset": 0, "size": 0}}
        if isinstance(item, bytes):
            node.update(kind=_FILE, dataRegion={"offset": len(self.data), "size": len(item)})
            self.data += item
        else:
            node.update(kind=_FOLDER, children={below: self.add(below, item[below]) for below in sorted(item)})
        self.nodes.append(node)
        return len(self.nodes) - 1
