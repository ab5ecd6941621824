import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

import kr_text.text.batches
from kr_text.text.batches import Batches, ShuffledRows, whole_batch

IDS = [[3, 4, 5], [6], [], [7, 8]]
LABELS = [0, 1, 2, 0]


@pytest.fixture(params=["whole", "in pieces", "in pieces that stay"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    """Rows in one chunk, or in several, one of which starts in the middle of a column."""
    if request.param == "in pieces that stay":
        monkeypatch.setattr(kr_text.text.batches, "MAX_COPY", 0)
    table = pa.table({"input_ids": IDS, "labels": LABELS})
    if request.param == "whole":
        return table
    return pa.concat_tables([table[:1], table[1:3], table[3:]])


def test_a_padded_batch_has_labels_ids_and_mask(rows: pa.Table) -> None:
    (batch,) = Batches(rows, pad_token_id=1).__getitems__([3, 0, 2])
    assert {name: column.tolist() for name, column in batch.items()} == {
        "labels": [0, 0, 2],
        "input_ids": [[7, 8, 1], [3, 4, 5], [1, 1, 1]],
        "attention_mask": [[1, 1, 0], [1, 1, 1], [0, 0, 0]],
    }
    assert all(column.dtype == torch.int64 for column in batch.values())


def test_a_flat_batch_has_labels_concatenated_ids_and_offsets(rows: pa.Table) -> None:
    (batch,) = Batches(rows, pad_token_id=1, flat=True).__getitems__([3, 2, 0])
    assert {name: column.tolist() for name, column in batch.items()} == {
        "labels": [0, 2, 0],
        "input_ids": [7, 8, 3, 4, 5],
        "offsets": [0, 2, 2],
    }


def test_a_batch_of_empty_texts_has_no_ids(rows: pa.Table) -> None:
    (padded,) = Batches(rows, pad_token_id=1).__getitems__([2, 2])
    assert padded["input_ids"].shape == padded["attention_mask"].shape == (2, 0)
    (flat,) = Batches(rows, pad_token_id=1, flat=True).__getitems__([2, 2])
    assert (flat["input_ids"].tolist(), flat["offsets"].tolist()) == ([], [0, 0])


def test_a_single_row_has_its_length_without_padding(rows: pa.Table) -> None:
    batches = Batches(rows, pad_token_id=1)
    assert [len(batches[row]["input_ids"]) for row in range(len(batches))] == [3, 1, 0, 2]
    with pytest.raises(IndexError, match=r"row must be in 0\.\.3, got 4"):
        batches[4]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_gets_whole_batches(rows: pa.Table, num_workers: int) -> None:
    batches = Batches(rows, pad_token_id=1)
    loader = DataLoader(batches, batch_size=3, collate_fn=whole_batch, num_workers=num_workers)
    assert [batch["labels"].tolist() for batch in loader] == [[0, 1, 2], [0]]
    assert [batch["input_ids"].shape for batch in loader] == [(3, 3), (1, 2)]


def test_rows_without_labels_give_batches_without_labels(rows: pa.Table) -> None:
    (batch,) = Batches(rows.select(["input_ids"]), pad_token_id=1, flat=True).__getitems__([3, 2, 0])
    assert list(batch) == ["input_ids", "offsets"]


def table_of_lengths(lengths: list[int]) -> pa.Table:
    return pa.table({"input_ids": pa.array([[1] * length for length in lengths], pa.list_(pa.int32()))})


@pytest.mark.parametrize("flat", [False, True])
def test_shuffled_rows_are_all_rows_ordered_by_seed_and_epoch(flat: bool) -> None:
    rows = Batches(table_of_lengths([3] * 1000), 0, flat=flat)
    sampler, other = ShuffledRows(rows, 8, seed=1), ShuffledRows(rows, 8, seed=2)
    first = list(sampler)
    assert sorted(first) == list(range(1000)) != first
    assert list(sampler) == first != list(other)
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    assert sorted(second) == list(range(1000))
    assert len(sampler) == 1000


@pytest.mark.parametrize("flat", [False, True])
def test_balanced_rows_are_equally_many_of_every_class_ordered_by_seed_and_epoch(flat: bool) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 2, 5], [2, 7, 91]))  # of six classes, three have rows
    table = table_of_lengths([3] * 100).append_column("labels", pa.array(labels))
    sampler, other = (ShuffledRows(Batches(table, 0, flat=flat), 8, seed=seed, balanced=True) for seed in (1, 2))
    first = list(sampler)
    assert sorted(np.unique(labels[first], return_counts=True)[1]) == [33, 33, 34]
    times = np.bincount(first, minlength=100)
    for label, (fewest, most) in {0: (16, 17), 2: (4, 5), 5: (0, 1)}.items():
        assert fewest <= times[labels == label].min() <= times[labels == label].max() <= most
    assert list(sampler) == first != list(other)
    sampler.set_epoch(1)
    second = list(sampler)
    assert set(second) - set(first)  # another part of the large class
    assert len(sampler) == len(second) == 100
    assert abs(np.corrcoef(np.arange(100), labels[second])[0, 1]) < 0.5  # the classes are mixed


def test_padded_batches_have_similar_lengths_in_random_order() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 1002)
    table = table_of_lengths(lengths.tolist())
    grouped = lengths[list(ShuffledRows(Batches(table, 0), 4, seed=1))]
    batches = grouped[:1000].reshape(-1, 4)
    assert np.ptp(batches, axis=1).mean() < 10  # without groups it is near 120
    assert abs(np.corrcoef(np.arange(250), batches.mean(1))[0, 1]) < 0.3
    flat = lengths[list(ShuffledRows(Batches(table, 0, flat=True), 4, seed=1))]
    assert np.ptp(flat[:1000].reshape(-1, 4), axis=1).mean() > 80
