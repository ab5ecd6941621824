"""Converts each data file to Arrow once, in the cache of `datasets`; rows are then read from disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import DatasetDict, Features

from kr_text.data.files import read_tables


@dataclass
class _FilesConfig(datasets.BuilderConfig):  # type: ignore[misc]  # its base has no types
    """Files as (split, path, size, modification time), so that a changed file is read again.

    `schema` has the names of the columns in the cache, `columns` their names in each file.
    """

    files: tuple[tuple[str, Path, int, int], ...] = ()
    columns: tuple[tuple[str, ...], ...] = ()
    schema: pa.Schema = None
    has_header: bool = True


class _Files(datasets.ArrowBasedBuilder):  # type: ignore[misc]  # its base has no types
    """Builder that writes the tables of `read_tables` to the cache.

    The CSV builder of `datasets` reads with pandas, which fills up a row that has too few fields. Raise VERSION when
    the same file would be read differently.
    """

    BUILDER_CONFIG_CLASS = _FilesConfig
    VERSION = datasets.Version("1.1.0")
    paths: dict[str, Path]  # split -> file as the caller named it, for messages

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=Features.from_arrow_schema(self.config.schema))

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        files = zip(self.paths.items(), self.config.columns, strict=True)
        return [datasets.SplitGenerator(split, {"file": file, "columns": names}) for (split, file), names in files]

    def _generate_tables(self, file: Path, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        cached = self.info.features.arrow_schema
        schema = pa.schema([field.with_name(name) for field, name in zip(cached, columns, strict=True)])
        tables = read_tables(
            file, schema, has_header=self.config.has_header, types_from=next(iter(self.paths.values()))
        )
        yield from enumerate(table.rename_columns(cached.names) for table in tables)


def read_files(
    files: dict[str, Path],
    schema: pa.Schema,
    cache_dir: Any,
    *,
    has_header: bool = True,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> DatasetDict:
    """Reads columns of one file per split through the cache.

    Args:
        files: File of each split; `schema` was inferred from the first.
        schema: Names and types of the columns to return.
        cache_dir: Folder of the cache. Default: the cache of `datasets`.
        has_header: Whether the first row of CSV files holds the column names.
        columns: Names of these columns in the file of each split. Default: those of `schema`.

    Raises:
        ValueError: If a row is malformed, with its file and number, or a file has no rows.
    """
    builder = _Files(
        dataset_name="kr_text",
        cache_dir=cache_dir,
        files=tuple(
            (split, file.resolve(), file.stat().st_size, file.stat().st_mtime_ns) for split, file in files.items()
        ),
        columns=tuple(tuple(columns[split] if columns else schema.names) for split in files),
        schema=schema,
        has_header=has_header,
    )
    builder.paths = files
    failure = None
    try:
        builder.download_and_prepare()
    except datasets.exceptions.DatasetGenerationError as error:
        failure = error.__cause__
    if failure:
        raise failure
    for split, file in files.items():
        if not builder.info.splits[split].num_examples:
            raise ValueError(f"{file}: must have at least one row after the header, got none")
    return builder.as_dataset()
