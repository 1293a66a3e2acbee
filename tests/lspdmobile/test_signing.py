"""Signed runs: what openssl makes of the same files, and every change that must be noticed."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from lspdmobile.errors import BadInputError, GateFailedError
from lspdmobile.signing import check_signature, sign


def pem(path: Path, key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> tuple[Path, Path]:
    """Write both halves of a key."""
    private, public = path.with_suffix(".pem"), path.with_suffix(".pub")
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    shown = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(encoding, shown))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and its public half."""
    return pem(tmp_path / "mine", ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a manifest."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"files": {}}\n', encoding="utf-8")
    return folder


def test_what_was_signed_is_recognised(run: Path, keys: tuple[Path, Path]) -> None:
    assert sign(run, keys[0]) == run / "manifest.json.sig"
    check_signature(run, keys[1])
    assert sorted(path.name for path in run.iterdir()) == ["manifest.json", "manifest.json.sig"]


def test_a_changed_manifest_is_noticed(run: Path, keys: tuple[Path, Path]) -> None:
    sign(run, keys[0])
    (run / "manifest.json").write_text('{"files": {} }\n', encoding="utf-8")
    with pytest.raises(GateFailedError, match="it was changed, or somebody else signed it"):
        check_signature(run, keys[1])


def test_every_byte_of_a_signature_counts(run: Path, keys: tuple[Path, Path]) -> None:
    signature = sign(run, keys[0])
    whole = signature.read_bytes()
    assert len(whole) == 64
    for place in range(len(whole)):
        signature.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(GateFailedError):
            check_signature(run, keys[1])
    for other in (b"", whole[:-1], whole + b"\n"):
        signature.write_bytes(other)
        with pytest.raises(GateFailedError):
            check_signature(run, keys[1])


def test_somebody_elses_signature_is_noticed(run: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    others = pem(tmp_path / "other", ed25519.Ed25519PrivateKey.generate())
    sign(run, others[0])
    with pytest.raises(GateFailedError):
        check_signature(run, keys[1])
    sign(run, keys[0])
    check_signature(run, keys[1])


def test_a_run_that_nobody_signed_is_not_passed(run: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(GateFailedError, match="nobody signed this run"):
        check_signature(run, keys[1])


def test_openssl_agrees(run: Path, keys: tuple[Path, Path]) -> None:
    manifest, signature = run / "manifest.json", sign(run, keys[0])
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys[1]), "-rawin"]
    try:
        files = ["-in", str(manifest), "-sigfile", str(signature)]
        done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed here")
    assert done.returncode == 0, done.stderr


def test_keys_and_folders_that_cannot_be_used_are_refused(run: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    rsa_keys = pem(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    (tmp_path / "text.pem").write_text("secret", encoding="utf-8")
    for folder, key, said in (
        (run, rsa_keys[0], "is no Ed25519 key"),
        (run, keys[1], "is no private key as PEM"),
        (run, tmp_path / "text.pem", "is no private key as PEM"),
        (run, tmp_path / "gone.pem", "cannot be read"),
        (tmp_path, keys[0], "give a folder that export left"),
    ):
        with pytest.raises(BadInputError, match=said):
            sign(folder, key)
    for key, said in ((rsa_keys[1], "is no Ed25519 key"), (keys[0], "is no public key as PEM")):
        with pytest.raises(BadInputError, match=said):
            check_signature(run, key)
    assert [path.name for path in run.iterdir()] == ["manifest.json"]
