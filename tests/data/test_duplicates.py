import os
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from kr_text.data import load
from kr_text.data.duplicates import COUNTS, count_duplicates, log_duplicates

FEATURES = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b", "c"])})
Rows = list[tuple[str, int]]


def splits(train: Rows, validation: Rows | None = None, test: Rows | None = None) -> DatasetDict:
    given = {"train": train, "validation": validation or [], "test": test or []}
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {"text": [text for text, _ in rows], "label": [label for _, label in rows]}, features=FEATURES
            )
            for split, rows in given.items()
        }
    )


def test_rows_that_repeat_an_earlier_row_are_counted() -> None:
    counts = count_duplicates(splits([("one", 0), ("two", 0), ("one", 0), ("one", 0), ("two", 0)]))
    assert counts == dict.fromkeys(COUNTS, 0) | {"duplicate_train_rows": 3}


def test_texts_with_several_labels_are_counted_once_each() -> None:
    rows = [("one", 0), ("one", 1), ("one", 2), ("one", 1), ("two", 0), ("two", 1), ("three", 2)]
    counts = count_duplicates(splits(rows))
    assert counts == dict.fromkeys(COUNTS, 0) | {"duplicate_train_rows": 1, "contradictory_train_texts": 2}


def test_rows_of_validation_and_test_with_a_text_of_train_are_counted() -> None:
    counts = count_duplicates(splits([("one", 0), ("two", 1)], [("one", 1), ("new", 0)], [("two", 1), ("two", 1)]))
    assert counts == dict.fromkeys(COUNTS, 0) | {"validation_rows_in_train": 1, "test_rows_in_train": 2}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("It's late.", "it s  late", True),
        ('"Why?" she asked', "why she asked!", True),
        ("ZÜRICH\n\nist groß", "zürich ist groß", True),
        ("it's", "its", False),
        ("a b", "ab", False),
        (":)", ":(", False),
        ("日本", "中国", False),
        ("!", "!", True),
        ("a", "b", False),
    ],
)
def test_case_punctuation_and_white_space_make_no_difference(one: str, other: str, equal: bool) -> None:
    counts = count_duplicates(splits([(one, 0), ("more", 1)], test=[(other, 0)]))
    assert counts["test_rows_in_train"] == equal


def test_rows_in_several_batches_are_compared() -> None:
    rows = [(f"text {i % 15_000}", i % 3) for i in range(30_000)]
    assert count_duplicates(splits(rows, test=[("text 14999", 0)])) == {
        "duplicate_train_rows": 15_000,
        "contradictory_train_texts": 0,
        "validation_rows_in_train": 0,
        "test_rows_in_train": 1,
    }


def test_each_count_above_zero_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    log_duplicates(dict.fromkeys(COUNTS, 0) | {"test_rows_in_train": 1200}, "news")
    assert caplog.messages == ["news: 1,200 rows of test have a text that train has too"]


if "KR_TEXT_DATA" in os.environ:

    def test_real_questions_occur_in_train_and_test_and_with_two_labels(cache_dir: str) -> None:
        counts = count_duplicates(load(Path(os.environ["KR_TEXT_DATA"]) / "yahoo_answers", cache_dir=cache_dir))
        assert counts == {
            "duplicate_train_rows": 55,
            "contradictory_train_texts": 60,
            "validation_rows_in_train": 22,
            "test_rows_in_train": 40,
        }
