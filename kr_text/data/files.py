"""CSV, JSON lines and Parquet files as Arrow files in the cache of `datasets`; errors name the row that is wrong.

Rows count from 1, a header too, blank lines not.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from datasets import DatasetDict, Features

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_BLOCK_BYTES = 1 << 23  # at once; a row must be shorter


@dataclass
class _FilesConfig(datasets.BuilderConfig):  # type: ignore[misc]  # its base has no types
    """Files as (split, path, size, time of change), so that a changed file is read anew."""

    files: tuple[tuple[str, Path, int, int], ...] = ()
    schema: pa.Schema = None
    has_header: bool = True


class _Files(datasets.ArrowBasedBuilder):  # type: ignore[misc]  # its base has no types
    """Writes CSV, JSON lines and Parquet files to the cache of `datasets`, by Arrow's own readers.

    The CSV builder of `datasets` reads by pandas, which fills a row that is too short. Raise VERSION when the same file
    would be read differently.
    """

    BUILDER_CONFIG_CLASS = _FilesConfig
    VERSION = datasets.Version("1.1.0")

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=Features.from_arrow_schema(self.config.schema))

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(split, {"file": file}) for split, file, *_ in self.config.files]

    def _generate_tables(self, file: Path) -> Iterator[tuple[int, pa.Table]]:
        schema = self.info.features.arrow_schema
        for key, table in enumerate(_tables(file, schema, self.config.has_header)):
            yield key, table.select(schema.names).cast(schema)
        if is_csv(file) and not _quotes_enclose_fields(file):  # which Arrow does not ask for
            _find_bad_row(file, schema, self.config.has_header, file)


def read_files(files: dict[str, Path], schema: pa.Schema, has_header: bool, cache_dir: Any) -> DatasetDict:
    """Reads the columns of `schema` from one file for each split; without a header, they are all there are."""
    builder = _Files(
        dataset_name="kr_text",
        cache_dir=cache_dir,
        files=tuple(
            (split, file.resolve(), file.stat().st_size, file.stat().st_mtime_ns) for split, file in files.items()
        ),
        schema=schema,
        has_header=has_header,
    )
    failure = None
    try:
        builder.download_and_prepare()
    except datasets.exceptions.DatasetGenerationError as error:
        failure = error.__cause__
    if failure:
        for file in files.values():
            _find_bad_row(file, schema, has_header, files["train"])
        raise ValueError(f"{', '.join(map(str, files.values()))}: {failure}") from failure
    for split, file in files.items():
        if not builder.info.splits[split].num_examples:
            raise ValueError(f"{file}: must have at least one row after the header, got none")
    return builder.as_dataset()


def _tables(file: Path, schema: pa.Schema, has_header: bool) -> Iterator[pa.Table]:
    if file.suffix == ".parquet":
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(columns=schema.names):
            yield pa.Table.from_batches([batch])
    elif is_csv(file):
        names = None if has_header else schema.names
        for batch in pyarrow.csv.open_csv(
            file,
            pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=names),
            pyarrow.csv.ParseOptions(delimiter=_delimiter(file), newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=schema, include_columns=schema.names, strings_can_be_null=False),
        ):
            yield pa.Table.from_batches([batch])
    else:
        options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        with _open(file) as lines:
            while block := b"".join(lines.readlines(_BLOCK_BYTES)):
                whole = pyarrow.json.ReadOptions(block_size=len(block) + 1)
                yield pyarrow.json.read_json(io.BytesIO(block), whole, options)


def column_names(file: Path) -> list[str]:
    """From the footer, the header or the first record."""
    return list(_parquet_schema(file).names if file.suffix == ".parquet" else first_record(file))


def column_types(file: Path, columns: Sequence[str]) -> pa.Schema:
    """The columns with their types: from the footer, or the first value in JSON; fields of a CSV file are texts."""
    if file.suffix == ".parquet":
        schema = _parquet_schema(file)
        return pa.schema([schema.field(column) for column in columns], metadata=schema.metadata)
    if is_csv(file):
        return pa.schema([(column, pa.string()) for column in columns])
    first: dict[str, Any] = dict.fromkeys(columns)
    for record in _records(file):
        first |= {column: record.get(column) for column in columns if first[column] is None}
        if None not in first.values():
            break
    return pa.Table.from_pylist([first]).schema


def _parquet_schema(file: Path) -> pa.Schema:
    try:
        return pyarrow.parquet.read_schema(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file}: must be a Parquet file, got: {error}") from None


def first_record(file: Path) -> Any:
    """The first row as a list of fields (CSV) or a dict (JSON)."""
    for record in _records(file):
        return record
    raise ValueError(f"{file}: must have at least one row, got an empty file")


def _records(file: Path) -> Iterator[Any]:
    """Lists (CSV) or dicts (JSON), one by one: slow, but it can say which row is wrong and why."""
    row = 0
    csv.field_size_limit(2**31 - 1)  # of 131,072 characters by default
    try:
        with _open(file) as stream:
            lines = (line.decode("utf-8-sig") for line in stream)
            records = (
                csv.reader(lines, delimiter=_delimiter(file), strict=True)
                if is_csv(file)
                else map(json.loads, filter(str.strip, lines))
            )
            for row, record in enumerate(filter(None, records), 1):
                if not isinstance(record, list if is_csv(file) else dict):
                    raise ValueError(f"{file}: row {row}: must be one JSON object on one line, got {type(record)}")
                yield record
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x} at place {error.start + 1} of the line"
        raise ValueError(f"{file}: row {row + 1}: must be UTF-8, got {got}: save the file as UTF-8") from None
    except csv.Error as error:
        raise ValueError(
            f"{file}: row {row + 1}: a quote that opens a field must close it, and a quote inside must be doubled, "
            f"got: {error}"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: row {row + 1}: must be one JSON object on one line, got: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: row {row + 1}: must be a whole gzip file, got: {error}") from None


def _find_bad_row(file: Path, schema: pa.Schema, has_header: bool, train: Path) -> None:
    """Raises the error that names the row, if one is found; the types of `schema` are those of `train`."""
    if file.suffix == ".parquet":
        return
    first = first_record(file)
    num_fields = len(first) if has_header else len(schema)
    for row, record in enumerate(_records(file), 1):
        if is_csv(file) and len(record) != num_fields:
            raise ValueError(f"{file}: row {row}: must have {num_fields} fields, got {len(record)}: {listed(record)}")
        if not is_csv(file):
            for field in schema:
                value = record.get(field.name)
                if isinstance(value, str) and not is_unicode(value):
                    raise ValueError(f"{file}: row {row}: {field.name} must be Unicode, got half of a surrogate pair")
                if value is not None and pa.scalar(value).type != field.type:
                    before = "the rows before" if file == train else train
                    rule = f"{field.name} must be {field.type} as in {before}"
                    raise ValueError(f"{file}: row {row}: {rule}, got {value!r}")


def is_unicode(text: str) -> bool:
    """Whether UTF-8 has the text: JSON can hold halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_csv(file: Path) -> bool:
    """Whether the file has fields between commas or tabs."""
    return file.name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz"))


def _delimiter(file: Path) -> str:
    return "\t" if file.name.endswith((".tsv", ".tsv.gz")) else ","


def _open(file: Path) -> gzip.GzipFile | io.BufferedReader:
    # not gzip.open: `datasets` replaces it in the module of a builder, and never closes the file under it
    return gzip.GzipFile(file) if file.suffix == ".gz" else file.open("rb")


def _quotes_enclose_fields(file: Path) -> bool:
    """Whether every other quote begins a field, and the rest end one, or are doubled within.

    A stray quote makes Arrow swallow all up to the next one, rows and all. Quotes within fields that are not enclosed
    do no harm, but cannot be told from stray ones here: row by row they can.
    """
    around = np.frombuffer(f'"\r\n{_delimiter(file)}'.encode(), np.uint8)
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
    """At most 10 names, each at most 40 characters."""
    return ", ".join(name[:40] for name in names[:10]) + (", ..." if len(names) > 10 else "")
