"""Imports go one way: a folder of kr_text imports only from itself and from what stands before it in LAYERS."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    "ranges",
    "formats",
    "machine",
    "losses",
    "kernels",
    "models",
    "trainer",
    "data",
    "text",
    "evaluation",
    "classifier",
    "training",
    "experiments",
    "report",
    "cli",
)
ENTRY_POINTS = {"__init__", "__main__"}  # of the package itself: they name things in every layer


def files() -> dict[str, Path]:
    """Every module of the package: its dotted name without `kr_text.`, and its file."""
    paths = {path.relative_to(ROOT / "kr_text"): path for path in (ROOT / "kr_text").rglob("*.py")}
    paths |= {Path("models") / path.name: path for path in (ROOT / "models").glob("*.py")}
    return {".".join(path.with_suffix("").parts): file for path, file in sorted(paths.items())}


MODULES = {name: file for name, file in files().items() if name not in ENTRY_POINTS}


def imports(name: str) -> set[str]:
    """The modules of the package that a module imports anywhere in its file, without `kr_text.`."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} must import by absolute names"
            names = [node.module or ""]
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {entry.removeprefix("kr_text.") for entry in names if entry.startswith("kr_text.")}
    as_modules = {entry if entry in MODULES else f"{entry}.__init__" for entry in found}
    return (as_modules & MODULES.keys()) - {name}


def layer(name: str) -> int:
    return LAYERS.index(name.partition(".")[0])


def test_every_module_is_in_a_layer() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set(LAYERS)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_its_layer_and_those_before(name: str) -> None:
    assert [entry for entry in sorted(imports(name)) if layer(entry) > layer(name)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {name: imports(name) for name in MODULES}
    while ready := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in ready:
            del left[name]
    assert left == {}
