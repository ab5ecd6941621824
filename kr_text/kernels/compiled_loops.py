"""Compilation of loops with numba, and two LLVM instructions that the loops use.

numba caches compiled code on disk, beside the loop's file or in the user's cache folder.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numba
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

Array = npt.NDArray[Any]
Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(loop: Loop) -> Loop:
    """Compiles a loop on its first call with each combination of types; the loop releases Python's global lock."""
    decorate: Any = partial(numba.njit, nogil=True, fastmath={"contract", "reassoc", "nsz"})
    try:
        result: Loop = decorate(cache=True)(loop)
    except RuntimeError:  # numba found no writable folder for its cache
        result = decorate()(loop)
    return result


def _prefetch(typingctx: Any, array: Any, row: Any) -> Any:
    """`llvm.prefetch` of `array[row]`, for an array of one or two dimensions."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, row_type = signature.args
        struct = context.make_array(array_type)(context, builder, args[0])
        index = context.cast(builder, args[1], row_type, types.intp)
        stride = builder.extract_value(struct.strides, 0)
        byte_pointer, int32, int64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
        begin = builder.gep(builder.bitcast(struct.data, byte_pointer), [builder.mul(index, stride)])
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte_pointer], ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32])
        )
        last = builder.sub(stride, ir.Constant(int64, 1))
        for offset in (ir.Constant(int64, 0), last):  # a row of up to 64 bytes spans at most two cache lines
            read, keep, data = (ir.Constant(int32, flag) for flag in (0, 3, 1))
            builder.call(prefetch, [builder.gep(begin, [offset]), read, keep, data])
        return context.get_dummy_value()

    return types.void(array, row), generate


def _trailing_zeros(typingctx: Any, bits: Any) -> Any:
    """`llvm.cttz`: the position of the lowest bit that is 1; `bits` must not be 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return bits(bits), generate


prefetch: Any = intrinsic(_prefetch)
trailing_zeros: Any = intrinsic(_trailing_zeros)
