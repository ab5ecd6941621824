"""kr_text.losses as a package for plain PyTorch."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import kr_text.losses

MODULES = sorted(module.name for module in pkgutil.iter_modules(kr_text.losses.__path__, "kr_text.losses."))


def imported_by(program: str) -> set[str]:
    """Names of all modules that a fresh process has imported after the program."""
    program += "; import sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_the_losses_imports_torch_only() -> None:
    of_torch, of_losses = imported_by("import torch"), imported_by(f"import {', '.join(MODULES)}")
    new = {name for name in of_losses - of_torch if name.split(".")[0] not in sys.stdlib_module_names}
    assert new == {"kr_text", "kr_text.ranges", "kr_text.losses", *MODULES}
    heavy = {"transformers", "datasets", "accelerate", "tokenizers", "evaluate", "scipy", "pyarrow", "numba"}
    assert heavy & of_losses == set()


@pytest.mark.parametrize("name", kr_text.losses.__all__)
def test_every_public_name_of_the_losses_exists(name: str) -> None:
    assert hasattr(kr_text.losses, name)


@pytest.mark.parametrize("name", ["KRLoss", "KRLossParts", "kr_terms", "SofteningLoss", "make_loss", "named_loss"])
def test_the_losses_are_documented_where_they_are_defined(name: str) -> None:
    value = getattr(kr_text.losses, name)
    assert value.__doc__
    assert value is getattr(importlib.import_module(value.__module__), name)
