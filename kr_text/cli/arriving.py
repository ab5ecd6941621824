"""Chunks of items as they arrive: those that have been read are passed on while the next is awaited."""

from collections.abc import Iterable, Iterator
from queue import Queue
from threading import Thread
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")


class _End(NamedTuple):
    """After the last item: the error of reading, if any."""

    error: Exception | None


def arriving(items: Iterable[Item], at_most: int) -> Iterator[list[Item]]:
    """Reads items in a thread, and yields those that have arrived since the last chunk, at least one.

    Args:
        items: Items to read; the next one may take any time, such as the next line of a pipe.
        at_most: Size of the largest chunk. The thread reads as many items ahead.

    Raises:
        Exception: The error of reading, after the items before it.
    """
    queue: Queue[Item | _End] = Queue(at_most)
    Thread(target=_read, args=(items, queue), daemon=True).start()
    entry: Item | _End | None = None
    while not isinstance(entry, _End):
        chunk: list[Item] = []
        while not isinstance(entry := queue.get(), _End):
            chunk.append(entry)
            if len(chunk) == at_most or queue.empty():  # no other thread takes from the queue
                break
        if chunk:
            yield chunk
    if entry.error is not None:
        raise entry.error


def _read(items: Iterable[Item], queue: "Queue[Item | _End]") -> None:
    try:
        for item in items:
            queue.put(item)
    except Exception as error:
        queue.put(_End(error))
    else:
        queue.put(_End(None))
