import gzip
import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Features, Value

from data_cases import header_rows, train_with, write_rows, write_zhang, zhang_rows
from kr_text.data import load
from kr_text.data.files import SUFFIXES, _quotes_enclose_fields

# Valid files


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_formats_give_the_same_rows(tmp_path: Path, cache_dir: str, suffix: str) -> None:
    for split, num_rows in (("train", 60), ("validation", 5), ("test", 7)):
        write_rows(tmp_path / f"{split}{suffix}", header_rows(num_rows))
    dataset = load(tmp_path, cache_dir=cache_dir)
    assert dataset.num_rows == {"train": 60, "validation": 5, "test": 7}
    assert dataset["train"].features == Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=["mixed", "neg", "pos"]),
        }
    )
    assert dataset["train"][4] == {"text": "text 4", "label": 1}


def test_byte_order_mark_blank_lines_and_crlf_are_ignored(zhang: Path, cache_dir: str) -> None:
    (zhang / "test.csv").write_bytes(b'\xef\xbb\xbf"1","a","b"\r\n\r\n"2","c","d"\r\n\r\n')
    assert load(zhang, cache_dir=cache_dir)["test"]["text"][:] == ["a b", "c d"]


def test_a_byte_order_mark_is_not_part_of_the_header(tmp_path: Path, cache_dir: str) -> None:
    file = write_rows(tmp_path / "data.csv", [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load(file, cache_dir=cache_dir)["train"].features["label"].names == ["a", "b"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_may_cross_block_boundaries(
    tmp_path: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("kr_text.data.files._BLOCK_BYTES", 1000)
    texts = [f"{i}\n" + "line\n" * (i % 50) + "end" for i in range(200)]
    rows = [{"text": text if suffix == ".jsonl" else f'"{text}"', "label": i % 2} for i, text in enumerate(texts)]
    dataset = load(write_rows(tmp_path / f"data{suffix}", rows), cache_dir=cache_dir)
    assert sorted(text for split in dataset.values() for text in split["text"]) == sorted(texts)


def test_other_json_fields_may_hold_any_value(tmp_path: Path, cache_dir: str) -> None:
    rows = [{"text": f"text {i}", "label": i % 2, "other": [1, "a", {"b": []}][i % 3]} for i in range(20)]
    assert load(write_rows(tmp_path / "data.jsonl", rows), cache_dir=cache_dir)["train"].num_rows == 16


def test_quotes_inside_unquoted_fields_are_text(tmp_path: Path, cache_dir: str) -> None:
    texts = [f'a {i}" disk' for i in range(20)]
    rows = "".join(f"{text},{'xy'[i % 2]}\n" for i, text in enumerate(texts))
    (tmp_path / "data.csv").write_text("text,label\n" + rows)
    dataset = load(tmp_path / "data.csv", cache_dir=cache_dir)
    assert sorted(text for split in dataset.values() for text in split["text"]) == sorted(texts)


def test_a_long_text_with_a_quote_is_read(tmp_path: Path, cache_dir: str) -> None:
    long = '5" disks ' * 20_001  # more than csv reads by default, with an odd number of quotes
    (tmp_path / "data.csv").write_text("text,label\n" + f"{long},x\n" + "a,y\nb,x\n" * 10)
    dataset = load(tmp_path / "data.csv", cache_dir=cache_dir)
    assert long.strip() in {text for split in dataset.values() for text in split["text"]}


# Malformed rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"4","a","b"', r"class must be in 1\.\.3, got '4'"),
        ('"0","a","b"', r"class must be in 1\.\.3, got '0'"),
        ('"","a","b"', r"class must be in 1\.\.3, got ''"),
        ('"Sports","a","b"', r"class must be in 1\.\.3, got 'Sports'"),
        ('"1",""," "', "text must not be empty"),
        (r'"1","\n",""', "text must not be empty"),
        ('"1","a"', "must have 3 fields, got 2: 1, a"),
        ('"1","a","b","c"', "must have 3 fields, got 4: 1, a, b, c"),
        ('"1","a","b', "a quote that opens a field must close it"),
        ('"1","a "b" c","d', "a quote that opens a field must close it"),
    ],
)
def test_the_error_for_a_malformed_csv_row_names_the_row(zhang: Path, cache_dir: str, line: str, message: str) -> None:
    train_with(zhang, 17, line)
    with pytest.raises(ValueError, match=rf"^{zhang}/train\.csv: row 17: {message}"):
        load(zhang, cache_dir=cache_dir, strict=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "label": "pos"', "must be one JSON object on one line"),
        ('["a", "pos"]', "must be one JSON object on one line"),
        ('{"text": 7, "label": "pos"}', "text must be string as in the rows before, got 7"),
        ('{"text": "a", "label": 1}', "label must be string as in the rows before, got 1"),
        ('{"text": "a"}', "label must be a class of train .*, got None"),
        ('{"text": null, "label": "pos"}', "text must not be empty"),
        ('{"text": "a \\ud83d", "label": "pos"}', "text must be Unicode, got half of a surrogate pair"),
    ],
)
def test_the_error_for_a_malformed_json_line_names_the_row(
    tmp_path: Path, cache_dir: str, line: str, message: str
) -> None:
    lines = [json.dumps(row) for row in header_rows(60)]
    lines[6] = line
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"data\.jsonl: row 7: {message}"):
        load(tmp_path / "data.jsonl", cache_dir=cache_dir, strict=True)


def test_an_unclosed_quote_at_the_end_of_the_file_is_an_error(zhang: Path, cache_dir: str) -> None:
    train_with(zhang, 60, '"1","a","b')
    with pytest.raises(ValueError, match=rf"^{zhang}/train\.csv: row 60: a quote that opens a field must close it"):
        load(zhang, cache_dir=cache_dir)


@pytest.mark.parametrize(
    "wrong", ['"Great" movie,pos', '"Great movie and more,pos\n' + "a,neg\n" * 9 + '"Great movie and more,pos']
)
def test_a_stray_quote_is_an_error_and_hides_no_rows(tmp_path: Path, cache_dir: str, wrong: str) -> None:
    (tmp_path / "data.csv").write_text("text,label\n" + "a,pos\nb,neg\n" * 10 + wrong + "\n" + "a,pos\n" * 9)
    with pytest.raises(ValueError, match=r"data\.csv: row \d+: a quote that opens a field must close it"):
        load(tmp_path / "data.csv", cache_dir=cache_dir)


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 23])
def test_quotes_that_enclose_fields_are_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr("kr_text.data.files._BLOCK_BYTES", block_bytes)
    file = tmp_path / "data.csv"
    for text, enclose in [
        ('text,label\n"a, b",x\n"say ""hi""","y"\n"",z', True),
        ('"text","label"\r\n"two\nlines","x"\r\n', True),
        ("a,b\n", True),
        ('a 5" disk,x\n', False),
        ('"a" b,x\n', False),
        ('"a,x\nb,y\n', False),
    ]:
        file.write_text(text, newline="")
        assert _quotes_enclose_fields(file) == enclose, text


def test_errors_name_the_path_as_the_caller_wrote_it(
    zhang: Path, cache_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(zhang.parent)
    train_with(zhang, 17, '"1","a"')
    with pytest.raises(ValueError, match=r"^zhang/train\.csv: row 17: must have 3 fields"):
        load("zhang", cache_dir=cache_dir)


def test_the_error_for_invalid_utf8_names_the_byte(zhang: Path, cache_dir: str) -> None:
    lines = [line.encode() for line in zhang_rows(60)]
    lines[16] = '"1","Zürich","b"'.encode("latin-1")
    (zhang / "train.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=r"train\.csv: row 17: must be UTF-8, got byte 0xfc at place 7 of the line"):
        load(zhang, cache_dir=cache_dir)


def test_a_text_of_two_lines_counts_as_one_row(zhang: Path, cache_dir: str) -> None:
    lines = zhang_rows(60)
    lines[2] = '"1","two\nlines","b"'
    lines[4] = '"9","a","b"'
    (zhang / "train.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"row 5: class must be in 1\.\.3, got '9'"):
        load(zhang, cache_dir=cache_dir)


def test_an_error_late_in_a_file_has_the_right_row(tmp_path: Path, cache_dir: str) -> None:
    lines = zhang_rows(25_000)
    lines[23_456] = '"7","a","b"'
    folder = write_zhang(tmp_path / "z", {"train": lines, "test": zhang_rows(9)})
    with pytest.raises(ValueError, match="row 23457: class"):
        load(folder, cache_dir=cache_dir)


def test_a_test_file_with_another_number_of_fields_is_an_error(zhang: Path, cache_dir: str) -> None:
    (zhang / "test.csv").write_text('"1","a"\n')
    with pytest.raises(ValueError, match=r"test\.csv: row 1: must have 3 fields, got 2"):
        load(zhang, cache_dir=cache_dir)


def test_a_json_array_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps(header_rows(9), indent=1))
    with pytest.raises(ValueError, match=r"data\.json: row 1: must be one JSON object on one line"):
        load(tmp_path / "data.json")


# Empty and damaged files


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"")], ids=["no bytes", "empty lines", "gzip"])
def test_an_empty_file_is_an_error(zhang: Path, cache_dir: str, content: bytes) -> None:
    (zhang / "train.csv").unlink()
    (zhang / ("train.csv.gz" if content[:1] == b"\x1f" else "train.csv")).write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.csv.*: must have at least one row, got an empty file"):
        load(zhang, cache_dir=cache_dir)


def test_an_empty_test_file_is_an_error(zhang: Path, cache_dir: str) -> None:
    (zhang / "test.csv").write_text("")
    with pytest.raises(ValueError, match=r"test\.csv: must have at least one row, got an empty file"):
        load(zhang, cache_dir=cache_dir)


def test_a_header_without_rows_is_an_error(tmp_path: Path, cache_dir: str) -> None:
    (tmp_path / "data.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match=r"data\.csv: must have at least one row after the header, got none"):
        load(tmp_path / "data.csv", cache_dir=cache_dir)


@pytest.mark.parametrize("keep", [10, 200])
def test_a_truncated_gzip_file_is_an_error(zhang: Path, cache_dir: str, keep: int) -> None:
    (zhang / "train.csv").unlink()
    (zhang / "train.csv.gz").write_bytes(gzip.compress("\n".join(zhang_rows(600)).encode())[:keep])
    with pytest.raises(ValueError, match=r"train\.csv\.gz: row \d+: must be a whole gzip file"):
        load(zhang, cache_dir=cache_dir)


def test_an_uncompressed_file_named_gz_is_an_error(zhang: Path, cache_dir: str) -> None:
    (zhang / "train.csv").rename(zhang / "train.csv.gz")
    with pytest.raises(ValueError, match=r"train\.csv\.gz: row 1: must be a whole gzip file, got: Not a gzipped file"):
        load(zhang, cache_dir=cache_dir)


def test_a_text_file_named_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_text("text,label\na,b\n")
    with pytest.raises(ValueError, match=r"data\.parquet: must be a Parquet file, got"):
        load(tmp_path / "data.parquet")
