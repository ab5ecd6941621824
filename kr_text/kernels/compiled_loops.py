"""How loops are compiled with numba, see memory before they need it, and share the cores with PyTorch.

numba keeps what it compiled on disk, beside the file of the loop or in the user's cache folder. To import this module
takes numba, the extra `fast`.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, TypeVar

import numba
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

Loop = TypeVar("Loop", bound=Callable[..., Any])

PARTS_PER_THREAD = 4


def compiled(loop: Loop) -> Loop:
    """The loop, compiled when it is first called with arguments of new types; it runs without Python's lock."""
    decorate: Any = partial(numba.njit, nogil=True, fastmath={"contract", "reassoc", "nsz"})
    try:
        result: Loop = decorate(cache=True)(loop)
    except RuntimeError:  # there is no folder that could be written
        result = decorate()(loop)
    return result


def _prefetch(typingctx: Any, array: Any, row: Any) -> Any:
    """Asks for the memory of a row of an array, a table or a list, without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, row_type = signature.args
        parts = context.make_array(array_type)(context, builder, args[0])
        index = context.cast(builder, args[1], row_type, types.intp)
        stride = builder.extract_value(parts.strides, 0)
        byte_pointer, int32, int64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
        begin = builder.gep(builder.bitcast(parts.data, byte_pointer), [builder.mul(index, stride)])
        hint = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte_pointer], ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32])
        )
        last = builder.sub(stride, ir.Constant(int64, 1))
        for place in (ir.Constant(int64, 0), last):  # a row of up to 64 bytes lies in one line, or in two
            read, keep, data = (ir.Constant(int32, flag) for flag in (0, 3, 1))
            builder.call(hint, [builder.gep(begin, [place]), read, keep, data])
        return context.get_dummy_value()

    return types.void(array, row), generate


def _trailing_zeros(typingctx: Any, bits: Any) -> Any:
    """How many bits are zero below the lowest one that is not."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return bits(bits), generate


prefetch: Any = intrinsic(_prefetch)  # what the loops call
trailing_zeros: Any = intrinsic(_trailing_zeros)


def in_parts(loop: Callable[..., None], *args: Any) -> None:
    """The loop in parts, several for each thread, since another thread takes long to wake."""
    num_others = num_threads() - 1
    parts = PARTS_PER_THREAD * (num_others + 1) if num_others else 1
    left = iter(range(parts))  # which the threads share

    def work() -> None:
        for part in left:
            loop(part, parts, *args)

    others = [_threads().submit(work) for _ in range(num_others)]
    work()
    for other in others:
        other.result()


def num_threads() -> int:
    """As many as PyTorch has, or had before `threads_for_loops`."""
    return _num_threads.get() or torch.get_num_threads()


_num_threads: ContextVar[int | None] = ContextVar("num_threads", default=None)


@contextmanager
def threads_for_loops() -> Iterator[None]:
    """Leaves the cores to the loops: PyTorch gets one thread, since its others wait for work by spinning on theirs."""
    before = torch.get_num_threads()
    token = _num_threads.set(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _num_threads.reset(token)


@lru_cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="loops")


if hasattr(os, "register_at_fork"):  # threads do not come along
    os.register_at_fork(after_in_child=_threads.cache_clear)
