import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("docs/paper.md", "docs/trainer.md")
CODE = [code for page in PAGES for code in re.findall(r"`([^`\n]+)`", (ROOT / page).read_text(encoding="utf-8"))]
OBJECTS = sorted({code for code in CODE if re.fullmatch(r"kr_text(\.\w+)+", code)})
# test_that_it_works, or test_file.py::test_that_it_works[a parameter]
TESTS = sorted({name for code in CODE for name in re.findall(r"(?:^|::)(test_\w+)(?:$|\[)", code)})
FILES = sorted({code for code in CODE if "/" in code})
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "kr_text").rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


def test_the_pages_name_objects_tests_and_files() -> None:
    assert len(OBJECTS) >= 10
    assert len(TESTS) >= 40
    assert len(FILES) >= 3


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_on_the_pages_exists(name: str) -> None:
    pkgutil.resolve_name(name)


def test_every_test_on_the_pages_exists() -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py")]
    functions = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(TESTS) - functions == set()


@pytest.mark.parametrize("name", FILES)
def test_every_file_on_the_pages_exists(name: str) -> None:
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_give_what_they_say(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0


def test_the_architecture_names_every_module_and_only_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [path for folder in ("kr_text", "models") for path in (ROOT / folder).rglob("*.py")]
    named = {path.name for path in modules if f"`{path.name}`" in page or f"`kr_text/{path.name}`" in page}
    assert {path.name for path in modules} - named == {"__init__.py", "__main__.py"}
    paths = set(re.findall(r"`((?:kr_text|models|scripts|tests|results|docs)/[\w./]*)`", page))
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
