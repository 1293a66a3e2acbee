"""Signatures of a run: Ed25519 (RFC 8032) over the bytes of ``manifest.json``, which holds the hash of every file.

Keys are PEM files as ``openssl genpkey -algorithm ed25519`` writes them; a signature is the 64 bytes and nothing else,
so ``openssl pkeyutl -verify -rawin`` checks it as well.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lspdmobile.errors import BadInputError, EnvironmentLacksError, GateFailedError
from lspdmobile.run_folder import MANIFEST, SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["check_signature", "sign"]


def sign(run: Path, key: Path) -> Path:
    """Sign the manifest of a run folder; gives the signature's file, which replaces an earlier one at once.

    Args:
        run: What ``export`` left.
        key: Private key, PEM, not encrypted.

    Raises:
        BadInputError: The run has no manifest, the key cannot be used, or the signature cannot be written.
        EnvironmentLacksError: cryptography is not installed.
    """
    private = _private(key)
    signature, partial = run / SIGNATURE, run / f".{SIGNATURE}.partial"
    try:
        partial.write_bytes(private.sign(_manifest_of(run)))
        partial.replace(signature)
    except OSError as error:
        partial.unlink(missing_ok=True)
        message = f"{signature}: cannot be written ({error.strerror or error})"
        raise BadInputError(message) from error
    return signature


def check_signature(run: Path, key: Path) -> None:
    """Check that a manifest is the one that was signed, by the owner of the key.

    Args:
        run: What ``export`` left.
        key: Public key, PEM.

    Raises:
        BadInputError: The run has no manifest, or the key cannot be used.
        EnvironmentLacksError: cryptography is not installed.
        GateFailedError: There is no signature, or it is not this key's of this manifest.
    """
    public, manifest = _public(key), _manifest_of(run)
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify((run / SIGNATURE).read_bytes(), manifest)
    except FileNotFoundError as error:
        message = f"{run / SIGNATURE}: is missing, nobody signed this run; lspdmobile manifest sign"
        raise GateFailedError(message) from error
    except InvalidSignature as error:
        message = f"{run / MANIFEST}: is not what the owner of {key} signed: it was changed, or somebody else signed it"
        raise GateFailedError(message) from error


def _manifest_of(run: Path) -> bytes:
    try:
        return (run / MANIFEST).read_bytes()
    except OSError as error:
        message = f"{run / MANIFEST}: cannot be read ({error.strerror or error}); give a folder that export left"
        raise BadInputError(message) from error


def _private(path: Path) -> "Ed25519PrivateKey":
    from_pem, kind = _cryptography()
    key = _read(path, lambda text: from_pem.load_pem_private_key(text, password=None), "private")
    if isinstance(key, kind.Ed25519PrivateKey):
        return cast("Ed25519PrivateKey", key)
    message = f"{path}: is no Ed25519 key; openssl genpkey -algorithm ed25519 makes one"
    raise BadInputError(message)


def _public(path: Path) -> "Ed25519PublicKey":
    from_pem, kind = _cryptography()
    key = _read(path, from_pem.load_pem_public_key, "public")
    if isinstance(key, kind.Ed25519PublicKey):
        return cast("Ed25519PublicKey", key)
    message = f"{path}: is no Ed25519 key; openssl pkey -in key.pem -pubout gives the public half of one"
    raise BadInputError(message)


def _read(path: Path, load: Any, kind: str) -> Any:
    try:
        return load(path.read_bytes())
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror or error})"
    except (TypeError, ValueError) as error:
        message = f"{path}: is no {kind} key as PEM without a password ({str(error).splitlines()[0][:100]})"
    raise BadInputError(message)


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        message = "signatures need the package cryptography: pip install 'lspdmobile[sign]'"
        raise EnvironmentLacksError(message) from error
    return serialization, ed25519
