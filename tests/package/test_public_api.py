"""``__all__`` says what a module offers: all of it exists, and nothing offered is left out."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

PACKAGES = ("lspdmobile", "converters", "quantization")


def module_names() -> list[str]:
    """List every module of the three packages, without importing more than the packages themselves."""
    names = [*PACKAGES]
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names += [found.name for found in pkgutil.walk_packages(path, prefix=f"{package}.")]
    return [name for name in names if not name.endswith("__main__")]


def faults(module: ModuleType) -> list[str]:
    """Compare a module's ``__all__`` with what it defines."""
    offered: list[str] = list(getattr(module, "__all__", []))
    found = [f"{name} is offered but not there" for name in offered if not hasattr(module, name)]
    found += [f"{name} is offered twice" for name in set(offered) if offered.count(name) > 1]
    found += [f"{name} is private" for name in offered if name.startswith("_") and not name.startswith("__")]
    defined = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }
    return found + [f"{name} is public but not offered" for name in sorted(defined - set(offered))]


@pytest.mark.parametrize("name", module_names())
def test_all_is_honest(name: str) -> None:
    assert faults(importlib.import_module(name)) == []


def test_a_dishonest_all_is_noticed() -> None:
    module = ModuleType("planted")
    source = "__all__ = ['gone', 'twice', 'twice', '_hidden']\n_hidden = twice = 1\ndef forgotten(): ...\n"
    exec(source, vars(module))
    assert sorted(faults(module)) == [
        "_hidden is private",
        "forgotten is public but not offered",
        "gone is offered but not there",
        "twice is offered twice",
    ]
