import subprocess
import sys
from pathlib import Path

import lspdmobile
from lspdmobile.siblings import check_siblings

ROOT = Path(lspdmobile.__file__).parent.parent


def check_from(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the check in a fresh interpreter whose path begins with ``folder``."""
    code = (
        f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]\n"
        "from lspdmobile.siblings import check_siblings; check_siblings(); print('fine')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)


def test_our_own_packages_are_siblings() -> None:
    check_siblings()


def test_a_foreign_package_of_the_same_name_is_refused_and_both_places_named(tmp_path: Path) -> None:
    for name in ("converters", "quantization"):
        folder = tmp_path / name
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
        error = check_from(folder).stderr
        assert f"ImportError: lspdmobile is at {ROOT / 'lspdmobile'}" in error
        assert str(folder / name) in error


def test_a_folder_that_is_no_package_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "converters").mkdir()
    assert check_from(tmp_path).stdout == "fine\n"


def test_absent_packages_are_said_to_be_absent(tmp_path: Path) -> None:
    package = tmp_path / "lspdmobile"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "siblings.py").write_text((ROOT / "lspdmobile" / "siblings.py").read_text(encoding="utf-8"))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom lspdmobile.siblings import check_siblings\n"
    bare = [sys.executable, "-I", "-S", "-c", code + "check_siblings()"]  # without site-packages
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert "'converters' should be beside it, but Python finds none" in done.stderr
