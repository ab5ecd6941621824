"""Loads the data of a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from datasets import DatasetDict

from kr_text.data.sources import DataSet, load_data_set
from kr_text.data.split import parse_fold


class DataArguments(Protocol):
    """The fields of `RunArguments` that choose the data."""

    dataset: str
    text_column: str | None
    label_column: str | None
    validation_size: float | None
    max_train_rows: int | None
    fold: str | None
    strict: bool


def load_for(run: DataArguments) -> DatasetDict:
    """Loads the data of a run: the splits train, validation and test with the columns text and label."""
    return load_data_set_for(run).splits


def load_data_set_for(run: DataArguments) -> DataSet:
    """Loads the data of a run, with the rows and numbers of `DataSet`."""
    return load_data_set(
        run.dataset,
        text_column=run.text_column,
        label_column=run.label_column,
        validation_size=run.validation_size,
        max_train_rows=run.max_train_rows,
        fold=parse_fold(run.fold) if run.fold else None,
        strict=run.strict,
    )


@contextmanager
def only_errors_logged() -> Iterator[None]:
    """Silences what loading logs about the data, for data that are loaded again."""
    logger = logging.getLogger("kr_text.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
