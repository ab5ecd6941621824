import pytest
from datasets import ClassLabel, Dataset, Features, Value

import kr_text.training.data_size
from kr_text.training.data_size import DataSize, data_size


def rows_of(texts: list[str], labels: list[int], num_classes: int = 3) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=list("abcdef"[:num_classes]))})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def test_the_numbers_of_four_rows() -> None:
    texts = ["one", "two words", "now four words here", "a\tb\nc  d e f g"]
    # Words: 1, 2, 4, 7. The median is 3; the 95th percentile is 4 + 0.85 * 3 = 6.55.
    # Characters: 3, 9, 19, 14. The 95th percentile is 14 + 0.85 * 5 = 18.25.
    assert data_size(rows_of(texts, [0, 1, 1, 2])) == DataSize(
        num_rows=4, num_classes=3, smallest_class=1, words_median=3, words_95=7, characters_95=18
    )


def test_a_character_is_one_in_any_script() -> None:
    assert data_size(rows_of(["\u00e9\u4e2d\U00020000"], [0])).characters_95 == 3


def test_a_class_without_rows_is_the_smallest() -> None:
    size = data_size(rows_of(["a", "b", "c"], [0, 0, 1]))
    assert (size.num_classes, size.smallest_class) == (3, 0)


def test_the_lengths_of_many_rows_come_from_rows_at_regular_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_text.training.data_size, "SAMPLE", 3)
    texts = ["a", "a b c d e f g", "a a", "a b c d e f g", "a a a", "a b c d e f g"]  # every second is measured
    size = data_size(rows_of(texts, [0, 0, 1, 1, 2, 2]))
    assert (size.num_rows, size.smallest_class, size.words_median) == (6, 2, 2)
    assert size.characters_95 == 5  # of 1, 3 and 5: 3 + 0.9 * 2 = 4.8


def test_the_order_of_the_rows_is_that_of_a_selection() -> None:
    rows = rows_of(["a", "b c", "d e f"], [0, 1, 2]).select([2])
    size = data_size(rows)
    assert (size.num_rows, size.words_median, size.smallest_class) == (1, 3, 0)
