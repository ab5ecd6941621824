import importlib
import pkgutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tomllib

import kr_text

ROOT = Path(__file__).parents[1]
MODULES = sorted(module.name for module in pkgutil.walk_packages(kr_text.__path__, "kr_text."))


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, kr_text; dir(kr_text); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "kr_text" in modules
    heavy = {"torch", "transformers", "datasets", "tokenizers", "numpy", "scipy", "pyarrow", "yaml", "accelerate"}
    assert heavy & set(modules) == set()


def test_grids_and_the_report_wait_for_no_import_of_transformers() -> None:
    code = (
        "import sys, kr_text.experiments.engines, kr_text.experiments.grids, kr_text.report.page; print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "kr_text.experiments.run" in modules
    assert {"transformers", "datasets"} & set(modules) == set()


@pytest.mark.parametrize("name", kr_text.__all__)
def test_every_public_name_is_that_of_its_module(name: str) -> None:
    value = getattr(kr_text, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert value.__module__.startswith("kr_text.")
    assert name in dir(kr_text)


def test_public_names_can_be_imported_with_a_star() -> None:
    names: dict[str, object] = {}
    exec("from kr_text import *", names)
    assert set(kr_text.__all__) <= set(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'kr_text' has no attribute 'KRLos'"):
        kr_text.KRLos  # noqa: B018  the access is the test
    assert not hasattr(kr_text, "torch")


def test_the_package_has_the_files_of_all_folders() -> None:
    folders = {"kr_text": ROOT / "kr_text", "kr_text.models": ROOT / "models"}
    folders |= {f"kr_text.{path.parent.name}": path.parent for path in (ROOT / "kr_text").glob("*/__init__.py")}
    files = {f"{name}.{path.stem}" for name, folder in folders.items() for path in folder.glob("*.py")}
    assert {"kr_text.losses.knowledge_refinery", "kr_text.models.fasttext"} <= files
    modules = {name.removesuffix(".__init__") for name in files}
    assert modules - {"kr_text"} == set(MODULES)


def test_every_folder_is_shipped() -> None:
    """With `packages` listed by hand, a folder that is not listed would be missing in the wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    folders = {f"kr_text.{path.parent.name}" for path in (ROOT / "kr_text").glob("*/__init__.py")}
    assert set(listed) == {"kr_text", "kr_text.models"} | folders


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__doc__


def test_the_version_is_that_of_the_metadata() -> None:
    assert kr_text.__version__ == metadata.version("kr-text")


def test_the_command_is_installed() -> None:
    (script,) = [entry for entry in metadata.entry_points(group="console_scripts") if entry.name == "kr-text"]
    assert script.value == "kr_text.cli:main"
    assert callable(script.load())


def test_the_package_says_that_it_is_typed_and_carries_its_recipes() -> None:
    assert (ROOT / "kr_text" / "py.typed").is_file()
    assert (ROOT / "kr_text" / "training" / "recipes.yaml").is_file()
