"""Compiled loop for ragged rows."""

from kr_text.kernels.compiled_loops import Array, compiled, prefetch

AHEAD = 8  # slices between a prefetch and its use
CACHE_LINE = 64  # bytes


@compiled
def copy_slices(source: Array, begins: Array, lengths: Array, slices: Array) -> None:
    """Writes `source[begin : begin + length]` for each pair of `begins` and `lengths` to `slices`, in order."""
    end = 0
    for index in range(len(begins)):
        soon = index + AHEAD
        if soon < len(begins):
            for position in range(begins[soon], begins[soon] + lengths[soon], CACHE_LINE // source.itemsize):
                prefetch(source, position)
        for position in range(begins[index], begins[index] + lengths[index]):
            slices[end] = source[position]
            end += 1
