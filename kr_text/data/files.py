"""Reader of CSV, TSV, JSON lines and Parquet files, for training and prediction; errors name the file and the row.

Row numbers start at 1. A header counts as a row, blank lines do not. columns.py checks labels and empty texts.
"""

import csv
import gzip
import io
import itertools
import json
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_BLOCK_BYTES = 1 << 23  # parsed at a time; Arrow reads up to 32 blocks ahead


def read_tables(
    file: Path, schema: pa.Schema, *, has_header: bool = True, types_from: Path | None = None
) -> Iterator[pa.Table]:
    """Streams the columns of `schema` from a file, as Arrow tables of a few megabytes each.

    Args:
        file: File whose name ends in one of `SUFFIXES`.
        schema: Names and types of the columns. Without a header, the names of all columns in order.
        has_header: Whether the first row of a CSV file holds the column names.
        types_from: File that `schema` was inferred from, for messages. Default: `file`.

    Raises:
        ValueError: If a row is malformed, with its number.
    """
    try:
        if is_csv(file) and not _quotes_enclose_fields(file):  # Arrow accepts stray quotes
            _check_rows(file, schema, has_header, types_from or file)
        for table in _tables(file, schema, has_header):
            yield table.select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        _check_rows(file, schema, has_header, types_from or file)
        if is_csv(file):
            _check_lengths(file)
        raise ValueError(f"{file}: {error}") from error


def _tables(file: Path, schema: pa.Schema, has_header: bool) -> Iterator[pa.Table]:
    if is_parquet(file):
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(columns=schema.names):
            yield pa.Table.from_batches([batch])
    elif is_csv(file):
        if has_header and _num_lines(file, at_most=2) < 2:  # Arrow refuses a header without a newline
            return
        for batch in pyarrow.csv.open_csv(
            pa.input_stream(file, compression="gzip" if _is_gzip(file) else None),
            pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=None if has_header else schema.names),
            pyarrow.csv.ParseOptions(delimiter=separator(file), newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=schema, include_columns=schema.names, strings_can_be_null=False),
        ):
            yield pa.Table.from_batches([batch])
    else:
        options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        with _open(file) as lines:
            while block := b"".join(lines.readlines(_BLOCK_BYTES)):
                whole = pyarrow.json.ReadOptions(block_size=len(block) + 1)
                yield pyarrow.json.read_json(io.BytesIO(block), whole, options)


def _num_lines(file: Path, at_most: int) -> int:
    """Number of lines that are not blank."""
    with _open(file) as lines:
        return sum(1 for _ in itertools.islice((line for line in lines if line.strip(b"\r\n")), at_most))


def column_names(file: Path) -> list[str]:
    """Column names from the Parquet schema, the CSV header or the first 1,000 JSON objects, which may lack some."""
    if is_parquet(file):
        return list(_parquet_schema(file).names)
    first = first_record(file)
    if is_csv(file):
        return list(first)
    return list(dict.fromkeys(name for record in itertools.islice(records(file), 1000) for name in record))


def column_types(file: Path, columns: Sequence[str]) -> pa.Schema:
    """Schema of the columns: Parquet stores it, JSON columns have the type of their first value, CSV has strings."""
    if is_parquet(file):
        schema = _parquet_schema(file)
        return pa.schema([schema.field(column) for column in columns], metadata=schema.metadata)
    if is_csv(file):
        return pa.schema([(column, pa.string()) for column in columns])
    first: dict[str, Any] = dict.fromkeys(columns)
    for record in records(file):
        first |= {column: record.get(column) for column in columns if first[column] is None}
        if None not in first.values():
            break
    return pa.schema([(column, pa.infer_type([value])) for column, value in first.items()])


def _parquet_schema(file: Path) -> pa.Schema:
    with file.open("rb") as stream:
        try:
            return pyarrow.parquet.read_schema(stream)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{file}: must be a Parquet file, got: {error}") from None


def first_record(file: Path) -> Any:
    """The first row, as `records` yields it; a file without rows is an error."""
    for record in records(file):
        return record
    raise ValueError(f"{file}: must have at least one row, got an empty file")


def records(file: Path) -> Iterator[Any]:
    """Yields rows one by one: lists of fields (CSV), dicts (JSON), or lines (any other file; `-` is standard input).

    Slower than `read_tables`, but knows which row is malformed and why.
    """
    where = "standard input" if str(file) == "-" else str(file)
    kind = list if is_csv(file) else dict if is_table(file) else str
    csv.field_size_limit(2**31 - 1)  # the default is 131,072 characters
    row = 0
    with _open(file) as stream:
        lines = (line.decode("utf-8-sig") for line in stream)
        rows: Iterator[Any] = lines
        if kind is list:
            rows = filter(None, csv.reader(lines, delimiter=separator(file), strict=True))
        elif kind is dict:
            rows = map(json.loads, filter(str.strip, lines))
        try:
            for row, record in enumerate(rows, 1):
                if not isinstance(record, kind):
                    raise ValueError(f"{where}: row {row}: must be one JSON object on one line, got {record!r:.40}")
                yield record
        except UnicodeDecodeError as error:
            got = f"byte 0x{error.object[error.start]:02x} at place {error.start + 1} of the line"
            raise ValueError(f"{where}: row {row + 1}: must be UTF-8, got {got}: save the file as UTF-8") from None
        except csv.Error as error:
            raise ValueError(
                f"{where}: row {row + 1}: a quote that opens a field must close it, and a quote inside must be "
                f"doubled, got: {error}"
            ) from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: row {row + 1}: must be one JSON object on one line, got: {error}") from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{where}: row {row + 1}: must be a whole gzip file, got: {error}") from None


def _check_rows(file: Path, schema: pa.Schema, has_header: bool, types_from: Path) -> None:
    """Raises a ValueError for the first row that `read_tables` cannot read, if there is one."""
    if is_parquet(file):
        return
    first = first_record(file)
    num_fields = len(first) if has_header else len(schema)
    for row, record in enumerate(records(file), 1):
        if not is_csv(file):
            _check_types(record, schema, f"{file}: row {row}", "the rows before" if file == types_from else types_from)
        elif len(record) != num_fields:
            raise ValueError(f"{file}: row {row}: must have {num_fields} fields, got {len(record)}: {listed(record)}")


def _check_lengths(file: Path) -> None:
    """Raises a ValueError for the first CSV row of at least a block: Arrow reads it only if it lies in two blocks."""
    for row, record in enumerate(records(file), 1):
        num_bytes = sum(len(field.encode()) + field.count('"') + 3 for field in record) + 1  # enclosed in quotes
        if num_bytes >= _BLOCK_BYTES:
            raise ValueError(f"{file}: row {row}: must be shorter than {_BLOCK_BYTES} bytes, got {num_bytes}")


def _check_types(record: dict[str, Any], schema: pa.Schema, where: str, types_from: Path | str) -> None:
    for field in schema:
        value = record.get(field.name)
        if isinstance(value, str) and not _is_unicode(value):
            raise ValueError(f"{where}: {field.name} must be Unicode, got half of a surrogate pair")
        if value is not None and pa.scalar(value).type != field.type:
            raise ValueError(f"{where}: {field.name} must be {field.type} as in {types_from}, got {value!r:.40}")


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode the text: JSON can hold unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_table(file: Path) -> bool:
    """Whether the file has columns, by its suffix."""
    return file.name.lower().endswith(SUFFIXES)


def is_csv(file: Path) -> bool:
    """Whether the file has fields between separators: commas, semicolons or tabs."""
    return file.name.lower().endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz"))


def is_tsv(file: Path) -> bool:
    """Whether the file has tabs between its fields, by its suffix."""
    return file.name.lower().endswith((".tsv", ".tsv.gz"))


def is_parquet(file: Path) -> bool:
    """Whether the file is a Parquet file."""
    return file.name.lower().endswith(".parquet")


def separator(file: Path) -> str:
    """The character between the fields of a CSV or TSV file.

    A TSV file has tabs. A CSV file has commas, unless its first row has none outside quotes: then it has semicolons or
    tabs, if the row has only one of them.
    """
    if is_tsv(file):
        return "\t"
    with _open(file) as lines:
        try:
            first = next((line for line in lines if line.strip(b"\r\n")), b"")
        except (OSError, EOFError, zlib.error):  # `records` reports a damaged file
            return ","
    outside_quotes = re.sub(rb'"[^"]*("|$)', b"", first)
    found = [character for character in ",;\t" if character.encode() in outside_quotes]
    return found[0] if len(found) == 1 else ","


def _is_gzip(file: Path) -> bool:
    return file.name.lower().endswith(".gz")


def _open(file: Path) -> IO[bytes]:
    if str(file) == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    return cast(IO[bytes], gzip.open(file)) if _is_gzip(file) else file.open("rb")


def _quotes_enclose_fields(file: Path) -> bool:
    """Whether every odd quote starts a field, and every even quote ends a field or is followed by another quote.

    After a stray quote Arrow reads everything up to the next quote as one field, across rows. Quotes inside a field
    without enclosing quotes are harmless; this check does not distinguish them from stray quotes, `records` does.
    """
    around = np.frombuffer(f'"\r\n{separator(file)}'.encode(), np.uint8)
    num_quotes, before = 0, b"\n"
    with _open(file) as stream:
        block = stream.read(_BLOCK_BYTES)
        while block:
            after = stream.read(_BLOCK_BYTES)
            characters = np.frombuffer(before + block + (after[:1] or b"\n"), np.uint8)
            places = np.flatnonzero(characters[1:-1] == ord('"')) + 1
            opens = (num_quotes + np.arange(len(places))) % 2 == 0
            if not np.isin(characters[places + np.where(opens, -1, 1)], around).all():
                return False
            num_quotes, before, block = num_quotes + len(places), block[-1:], after
    return num_quotes % 2 == 0


def listed(names: Sequence[str]) -> str:
    """Joins at most 10 names, each cut to 40 characters, for a message."""
    return ", ".join(name[:40] for name in names[:10]) + (", ..." if len(names) > 10 else "")
