import itertools
from collections.abc import Iterator
from queue import Queue

import pytest

from kr_text.cli.arriving import arriving


def test_what_has_arrived_is_passed_on_while_the_next_item_is_awaited() -> None:
    """The items come from a queue, so the reading thread waits where the test has put none."""
    given: Queue[int | None] = Queue()
    chunks = arriving(iter(given.get, None), at_most=100)
    for item in (1, 2):
        given.put(item)
        assert next(chunks) == [item]
    for last in (3, 4, 5, None):
        given.put(last)
    assert [item for chunk in chunks for item in chunk] == [3, 4, 5]


def test_items_that_are_there_come_in_chunks_of_the_largest_size() -> None:
    chunks = list(arriving(range(100_000), at_most=1000))
    assert [item for chunk in chunks for item in chunk] == list(range(100_000))
    assert max(map(len, chunks)) <= 1000
    assert 0 not in map(len, chunks)


def test_no_items_give_no_chunk() -> None:
    assert list(arriving([], at_most=3)) == []


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("row 3 is bad")

    entries = itertools.chain.from_iterable(arriving(items(), at_most=10))
    assert [next(entries), next(entries)] == [1, 2]
    with pytest.raises(ValueError, match="row 3 is bad"):
        next(entries)


def test_no_more_is_read_ahead_than_a_chunk() -> None:
    read: Queue[int] = Queue()

    def endless() -> Iterator[int]:
        number = 0
        while True:
            read.put(number)
            yield number
            number += 1

    chunks = arriving(endless(), at_most=4)
    next(chunks)
    numbers = [read.get(timeout=10) for _ in range(5)]  # a chunk, or one of 1, and then 4 in the queue
    assert numbers == [0, 1, 2, 3, 4]
    assert read.qsize() <= 5
