import json
import math
import os
from pathlib import Path

import pytest

from kr_text.formats.whole_files import finite, whole_file, write_json, write_text


def test_a_write_that_fails_leaves_the_old_file_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.txt"
    write_text("old", path)

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text("new", path)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"some.txt": "old"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_appears_only_when_it_is_complete(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "some.txt"
    with whole_file(path) as file:
        file.write("one\n")
        assert not path.exists()
    assert path.read_text() == "one\n"

    def interrupted() -> None:
        with whole_file(path) as file:
            file.write("two\n")
            raise error

    with pytest.raises(error):
        interrupted()
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"some.txt": "one\n"}


def test_no_temporary_file_remains(tmp_path: Path) -> None:
    write_text("é", tmp_path / "some.txt")
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("some.txt", "é")]


def test_nonfinite_numbers_are_null_at_any_depth(tmp_path: Path) -> None:
    value = {"nll": math.inf, "rows": [(1, math.nan), "inf"], "none": None}
    assert finite(value) == {"nll": None, "rows": [[1, None], "inf"], "none": None}
    write_json(value, tmp_path / "some.json")
    assert json.loads((tmp_path / "some.json").read_text()) == finite(value)
