"""Texts to classify, streamed from a file in constant memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features

from kr_text.data.columns import join_texts
from kr_text.data.files import column_names, column_types, is_csv, is_parquet, is_table, read_tables, records
from kr_text.data.headers import ColumnNames, find_column, find_texts, report_separator, report_synonyms, require_texts


def read_texts(path: str, text_column: str | None = None) -> Iterator[str]:
    """Yields the texts of a file one by one, read as `load` reads training rows, but without a cache.

    Args:
        path: CSV, TSV, JSON lines or Parquet file with a text in each row; any other file, and `-` for standard input,
            has a text in each line. A name that ends in `.gz` is read as gzip.
        text_column: Column with the text, or several, comma-separated, which are joined with a space. Default: text.

    Raises:
        ValueError: If a column is missing or a row is malformed, with its file and number. Row numbers start at 1; a
            header counts as a row, blank lines of files with columns do not.
    """
    file = Path(path)
    if not is_table(file):
        yield from map(str.strip, records(file))
        return
    if not is_parquet(file) and next(records(file), None) is None:  # an empty file has no header, and no texts
        return
    report_separator(file)
    names = ColumnNames(text_column, None)
    columns = find_texts(names, column_names(file), path)
    report_synonyms(names, columns, None, path)
    types = column_types(file, columns)
    schema = pa.schema([(field.name, pa.string() if pa.types.is_null(field.type) else field.type) for field in types])
    require_texts(columns, Features.from_arrow_schema(schema), path)
    fields_may_be_absent = not is_csv(file) and not is_parquet(file)
    for table in read_tables(file, schema):
        if fields_may_be_absent and pc.coalesce(*table.columns).null_count:
            _require_a_column_in_each_row(file, columns)
            fields_may_be_absent = False
        yield from join_texts(table, columns).to_pylist()


def _require_a_column_in_each_row(file: Path, columns: Sequence[str]) -> None:
    """Raises a ValueError for a JSON object without any of the columns, which Arrow reads as one with nulls."""
    for row, record in enumerate(records(file), 1):
        if not record.keys() & set(columns):
            find_column(columns[0], list(record), f"{file}: row {row}")
