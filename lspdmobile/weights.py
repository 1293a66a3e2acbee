"""Files of tensors: ``.safetensors``, and state dicts that are read without executing anything in them."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lspdmobile.errors import BadInputError

__all__ = ["first_line", "state_dict_of", "unpickled", "with_weights", "write_weights"]

_MOST_LISTED: Final = 12
_INSIDE: Final = ("state_dict", "model_state_dict", "model")
_WRAPPED: Final = "module."


def state_dict_of(path: Path) -> dict[str, Tensor]:
    """Read a state dict, also one inside a training checkpoint (``state_dict`` or ``model``) or of a wrapped module.

    Raises:
        BadInputError: The file is missing or damaged, holds code, or no state dict.
    """
    try:
        found = load_file(path) if path.suffix == ".safetensors" else unpickled(path, "cpu")
    except Exception as error:  # torch raises many kinds; every one means the file cannot be used
        message = f"{path}: not a plain state dict of tensors, nothing in it was executed ({first_line(error)})"
        raise BadInputError(message) from error
    inner = next((found[key] for key in _INSIDE if isinstance(found, dict) and isinstance(found.get(key), dict)), found)
    if not isinstance(inner, dict) or not inner or not all(isinstance(v, Tensor) for v in inner.values()):
        message = f"{path}: holds no state dict (tensor names to tensors); save network.state_dict()"
        raise BadInputError(message)
    wrapped = all(name.startswith(_WRAPPED) for name in inner)
    return {name.removeprefix(_WRAPPED) if wrapped else name: tensor for name, tensor in inner.items()}


def unpickled(source: Path | IO[bytes], device: str) -> Any:
    """Read tensors and plain values; raises where the file holds anything that would run."""
    return torch.load(source, map_location=device, weights_only=True)  # noqa: TID251 - the one place that may


def write_weights(network: nn.Module, path: Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write a network's tensors as ``.safetensors``, replacing the file at once.

    Raises:
        BadInputError: The file cannot be written; nothing of it is left.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata=metadata)
        partial.chmod(0o644)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        message = f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})"
        raise BadInputError(message) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def with_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Load weights into a network and put it into eval mode.

    Raises:
        BadInputError: Names or shapes differ (every difference is listed), or a value is not finite.
    """
    wanted = network.state_dict()
    faults = [f"missing {name}" for name in wanted if name not in tensors]
    faults += [f"unexpected {name}" for name in tensors if name not in wanted]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, {tuple(wanted[name].shape)} expected"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if faults:
        shown = "; ".join(faults[:_MOST_LISTED]) + ("; …" if len(faults) > _MOST_LISTED else "")
        message = f"{path}: {len(faults)} differences from the architecture: {shown}"
        raise BadInputError(message)
    bad = [n for n, t in tensors.items() if not bool(torch.isfinite(t.to(wanted[n].dtype)).all())]
    if bad:
        message = f"{path}: weights are not finite (NaN or infinity) in {', '.join(bad[:_MOST_LISTED])}"
        raise BadInputError(message)
    network.load_state_dict(dict(tensors))
    return network.eval()


def first_line(error: Exception) -> str:
    """Give the first line of what an exception says, or its name."""
    text = str(error).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__
