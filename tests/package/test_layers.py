"""Who may import whom, as pyproject.toml states it; one fault of each kind is planted to see the check work."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lspdmobile

ROOT = Path(lspdmobile.__file__).parent.parent
LINT = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages below ``root``."""
    code = f"import sys; sys.path.insert(0, {str(root)!r})\n{LINT}"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


def test_the_layers_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("lspdmobile/parity/compare.py", "import converters.tflite.emit"),
        ("lspdmobile/errors.py", "from lspdmobile.decode import decode"),
        ("quantization/plan.py", "import converters"),
        ("converters/tflite/emit.py", "import converters.coreml.emit"),
        ("converters/executorch/inspect.py", "import converters.coreml.mil.package"),
        ("converters/executorch/execute.py", "import converters.executorch_coreml.execute"),
        ("converters/coreml/emit.py", "from quantization.calibrate import calibrate"),
        ("lspdmobile/networks/blocks.py", "from lspdmobile.run import export"),
    ],
)
def test_a_forbidden_import_is_caught(module: str, line: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("lspdmobile", "converters", "quantization"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "pictures*"))
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
