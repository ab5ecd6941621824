import re
from pathlib import Path

import pytest

from kr_text.formats.yaml_files import read_yaml


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.yaml"


def test_values_are_read_as_yaml_types_or_as_text(path: Path) -> None:
    path.write_text("rate: 1e-3\nbf16: yes\nepochs: 010\nname: é\nrows: [1, x]\n", encoding="utf-8")
    assert read_yaml(path) == {"rate": "1e-3", "bf16": True, "epochs": 8, "name": "é", "rows": [1, "x"]}
    written = {"rate": "1e-3", "bf16": "yes", "epochs": "010", "name": "é", "rows": ["1", "x"]}
    assert read_yaml(path, as_text=True) == written


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"title: T\nabout: a: b\n", "line 2, column 9: mapping values are not allowed here"),
        (b"rows: [x, y}\n", "line 1, column 12: expected ',' or ']', but got '}'"),
        (b"model: \xff", "'utf-8' codec can't decode byte 0xff in position 7: invalid start byte"),
        (b"model: \x07", "unacceptable character #x0007: special characters are not allowed"),
    ],
)
def test_an_error_is_one_line_with_file_and_place(path: Path, content: bytes, message: str, as_text: bool) -> None:
    path.write_bytes(content)
    start = re.escape(f"{path}: must be a YAML file, got: {message}")
    with pytest.raises(ValueError, match=f"^{start}[^\n]*$"):
        read_yaml(path, as_text=as_text)


def test_python_objects_are_not_constructed(path: Path) -> None:
    path.write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(ValueError, match="line 1, column 1: could not determine a constructor"):
        read_yaml(path)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: No such file$"):
        read_yaml(path)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}: Is a directory$"):
        read_yaml(tmp_path)
