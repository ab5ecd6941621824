import csv
import gzip
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_cases import write_rows
from kr_text.data import load, read_texts
from kr_text.data.files import SUFFIXES


def write(path: Path, text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return str(path)


# Valid files


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "one\n\n two \r\nthr\u00e9e\r four", ["one", "", "two", "thr\u00e9e\r four"]),
        ("a", 'text\n"quoted"\n', ["text", '"quoted"']),
        ("a.csv", 'id,text\n1,"one, ""1"""\n2,"two\nlines"\n\n3,\n', ['one, "1"', "two\nlines", ""]),
        ("a.csv", "\ufefftext,id\r\n one ,1\r\n", ["one"]),  # as Excel saves it
        ("a.tsv", 'id\ttext\n1\t"one, 1"\n', ["one, 1"]),
        ("a.jsonl", '{"text": "one\\nline", "id": 1}\n\n{"text": null}\n{"text": ""}\n', ["one\nline", "", ""]),
        ("a.json", '{"text": "\\u00e9"}', ["\u00e9"]),
        ("a.jsonl", '{"text": null}\n', [""]),
        ("empty.txt", "", []),
        ("empty.csv", "", []),
        ("empty.jsonl", "", []),
        ("header.csv", "text,id\n", []),
        ("header.csv", "text,id", []),
    ],
)
def test_texts_are_read_from_every_format(tmp_path: Path, name: str, text: str, expected: list[str], gz: str) -> None:
    assert list(read_texts(write(tmp_path / f"{name}{gz}", text))) == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_training_file_can_be_predicted(tmp_path: Path, cache_dir: str, suffix: str) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)]
    file = write_rows(tmp_path / f"data{suffix}", rows)
    assert list(read_texts(str(file))) == [row["text"] for row in rows]
    trained = load(file, cache_dir=cache_dir)
    assert sorted(text for split in trained.values() for text in split["text"]) == sorted(row["text"] for row in rows)


FIELDS = st.text(" ab\u00e9\u2028\u00a0\x1f\"',;\t\n\r\\\ufeff\U0001f600", max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=9),
    suffix=st.sampled_from([".csv", ".tsv.gz", ".jsonl", ".parquet"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_texts_are_the_trimmed_nonempty_fields_joined_with_a_space(
    tmp_path: Path, rows: list[tuple[str, str]], suffix: str, quoting: Any
) -> None:
    file = tmp_path / f"data{suffix}"
    line_end = "\n" if quoting == csv.QUOTE_ALL else "\r\n"  # else the csv module writes \r without quotes
    if suffix == ".parquet":
        table = pa.table({"title": [title for title, _ in rows], "body": [body for _, body in rows]})
        pyarrow.parquet.write_table(table, file)
    elif suffix == ".jsonl":
        write(file, "".join(json.dumps({"title": title, "body": body}) + line_end for title, body in rows))
    else:
        with (
            gzip.open(file, "wt", newline="", encoding="utf-8")
            if suffix == ".tsv.gz"
            else file.open("w", newline="", encoding="utf-8") as stream
        ):
            delimiter = "\t" if ".tsv" in suffix else ","
            writer = csv.writer(stream, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
            writer.writerows([("title", "body"), *rows])
    expected = [" ".join(field for field in (title.strip(), body.strip()) if field) for title, body in rows]
    assert list(read_texts(str(file), "title, body")) == expected


def test_columns_are_joined_as_in_training(tmp_path: Path, cache_dir: str) -> None:
    rows = [["title", "label", "body"], ["one", "x", " two "], ["", "x", "three"], ["four", "x", " "]]
    path = tmp_path / "train.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*rows, *([f"y{row}", "y", ""] for row in range(5))])
    texts = list(read_texts(str(path), "title, body"))
    assert texts == ["one two", "three", "four", "y0", "y1", "y2", "y3", "y4"]
    data = load(path, text_column="title, body", cache_dir=cache_dir, validation_size=2)
    assert sorted(text for split in data.values() for text in split["text"]) == sorted(texts)


def test_one_of_several_json_columns_may_be_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"title": "a", "body": "b"}\n{"body": "c"}\n{"title": null, "body": null}\n')
    assert list(read_texts(path, "title,body")) == ["a b", "c", ""]


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    (text,) = read_texts(write(tmp_path / "a.csv", f"text\n{'word ' * 100_000}\n"))
    assert len(text) == 499_999


def test_a_suffix_may_be_upper_case(tmp_path: Path, cache_dir: str) -> None:
    (tmp_path / "TEXTS.CSV").write_text("label,text\n" + "x,a\ny,b\n" * 9)
    assert list(read_texts(str(tmp_path / "TEXTS.CSV"))) == ["a", "b"] * 9
    assert load(tmp_path / "TEXTS.CSV", cache_dir=cache_dir)["train"].num_rows == 14
    (tmp_path / "TEXTS.TSV.GZ").write_bytes(gzip.compress(b"label\ttext\nx\ta\n"))
    assert list(read_texts(str(tmp_path / "TEXTS.TSV.GZ"))) == ["a"]


# Streaming


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_file_is_read_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("kr_text.data.files._BLOCK_BYTES", 1000)
    lines = [json.dumps({"text": f"text {row}"}) if name == "a.jsonl" else f"text {row}" for row in range(10_000)]
    path = write(tmp_path / name, "\n".join(lines).encode() + b"\n\xff")
    texts = read_texts(path)
    assert list(itertools.islice(texts, 3)) == ["text 0", "text 1", "text 2"]
    with pytest.raises(ValueError, match="row 10001: must be UTF-8"):
        list(texts)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr("kr_text.data.files._BLOCK_BYTES", 10_000)
    rows = [{"text": "word " * 20 + str(row)} for row in range(80_000)]  # 8 MB
    texts = read_texts(str(write_rows(tmp_path / f"a{suffix}", rows)))
    next(texts)
    before, most = pa.total_allocated_bytes(), 0
    for number, _ in enumerate(texts):
        if number % 1000 == 0:
            most = max(most, pa.total_allocated_bytes() - before)
    assert most < 2_000_000


def test_reading_texts_writes_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert list(read_texts(write(tmp_path / "a.csv", "text\na\n"))) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_standard_input_has_a_text_in_each_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(write(tmp_path / "a", b"one\n two\n\xff\n")) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        texts = read_texts("-")
        assert [next(texts), next(texts)] == ["one", "two"]
        with pytest.raises(ValueError, match=r"^standard input: row 3: must be UTF-8"):
            next(texts)


# Errors


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,body\n1,one\n", "columns must include 'text', got id, body: name others with text_column"),
        ("a.csv", "text,text\na,b\n", "columns must include 'text' once, got text, text"),
        ("a.csv", "text,id\none,1\ntwo\n", "row 3: must have 2 fields, got 1: two"),
        ("a.csv", "text,id\none,1,2\n", "row 2: must have 2 fields, got 3: one, 1, 2"),
        ("a.csv", 'text\none\n"two\n', "row 3: a quote that opens a field must close it, .*unexpected end of data"),
        ("a.csv", 'text\n"one" 1\n', "row 2: a quote that opens a field must close it"),
        ("a.csv", b"text\none\n\xff\n", "row 3: must be UTF-8, got byte 0xff at place 1 of the line"),
        ("a.txt", b"one\n" * 5 + b"tw\xe9\n" + b"three\n" * 5000, "row 6: must be UTF-8, got byte 0xe9 at place 3"),
        ("a.jsonl", '{"text": "a"}\n{"body": "b"}\n', "row 2: columns must include 'text', got body"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', "row 2: must be one JSON object on one line, got: Expecting ','"),
        ("a.jsonl", '["text"]\n', r"row 1: must be one JSON object on one line, got \['text'\]"),
        ("a.jsonl", '"a text"\n', "row 1: must be one JSON object on one line, got 'a text'"),
        ("a.jsonl", "null\n", "row 1: must be one JSON object on one line, got None"),
        ("a.jsonl", '{"text": 5}\n', "column 'text' must hold texts, got .*int64"),
        ("a.jsonl", '{"text": ["a"]}\n', "column 'text' must hold texts, got List"),
        ("a.jsonl", '{"text": "a"}\n{"text": 5}\n', "row 2: text must be string as in the rows before, got 5"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b \\ud83d"}\n', "row 2: text must be Unicode, got half of a surrogate"),
        ("a.parquet", b"text\n", "must be a Parquet file, got"),
    ],
)
def test_an_error_names_the_file_and_the_row(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        list(read_texts(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"body,label\na,x\n"),
        ("a.csv", b"text,text,label\na,b,x\n"),
        ("a.csv", b"text,label\na,x\nb\n"),
        ("a.csv", b'text,label\n"a" b,x\n'),
        ("a.csv", b'text,label\n"a,x\n'),
        ("a.tsv", b"text\tlabel\n\xff\tx\n"),
        ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b", "label": "x"\n'),
        ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": 5, "label": "x"}\n'),
        ("a.jsonl", b'{"text": 5, "label": "x"}\n'),
        ("a.jsonl", b'{"text": "\\ud83d", "label": "x"}\n'),
        ("a.parquet", b"text"),
        ("a.csv.gz", b"text,label\na,x\n"),
        ("a.csv.gz", gzip.compress(b"text,label\n" + b"a,x\n" * 99, mtime=0)[:-9]),
    ],
)
def test_training_and_prediction_give_the_same_error(tmp_path: Path, cache_dir: str, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path / name}: ") as in_training:
        load(tmp_path / name, cache_dir=cache_dir)
    with pytest.raises(ValueError, match=f"^{tmp_path / name}: ") as in_prediction:
        list(read_texts(str(tmp_path / name)))
    assert str(in_prediction.value) == str(in_training.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"one\n" * 100)[:-10]], ids=["not gzip", "truncated"])
def test_a_damaged_gzip_file_of_lines_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path}: row \d+: must be a whole gzip file"):
        list(read_texts(str(path)))


@pytest.mark.parametrize("name", ["missing.csv", "missing.txt", "missing.jsonl.gz", "missing.parquet"])
def test_a_missing_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="No such file or directory") as error:
        list(read_texts(str(tmp_path / name)))
    assert str(error.value.filename) == str(tmp_path / name)


@pytest.mark.parametrize(
    ("field", "num_bytes"),
    [("long " * 1000, 5004), ("\u6f22\u5b57" * 450, 2704), ('"' + '""' * 995 + 'b"', 1995)],
    ids=["ASCII", "Chinese", "doubled quotes"],
)
def test_a_csv_row_that_arrow_cannot_read_because_of_its_bytes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, num_bytes: int
) -> None:
    monkeypatch.setattr("kr_text.data.files._BLOCK_BYTES", 1000)
    path = write(tmp_path / "a.csv", "text\n" + "a\n" * 9 + field + "\n")
    with pytest.raises(ValueError, match=rf"^{path}: row 11: must be shorter than 1000 bytes, got {num_bytes}$"):
        list(read_texts(path))


def test_a_harmless_quote_elsewhere_does_not_limit_the_length_of_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kr_text.data.files._BLOCK_BYTES", 1000)
    path = write(tmp_path / "a.csv", "text\n" + "x" * 1200 + '\na 5" disk\n')
    assert list(read_texts(path)) == ["x" * 1200, 'a 5" disk']
