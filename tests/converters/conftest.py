"""What the tests of several formats share."""

import gc
from typing import Any

import pytest


@pytest.fixture(scope="session")
def core_ml_tools() -> Any:
    """Core ML Tools; what importing it made is exempt from the full garbage collection it runs on each conversion."""
    import coremltools

    gc.collect()
    gc.freeze()
    return coremltools
