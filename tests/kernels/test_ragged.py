import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kr_text.kernels import dispatch
from kr_text.kernels.ragged import concatenate_slices, ranges

SLICES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=50)


@given(SLICES)
def test_ranges_are_python_ranges(slices: list[tuple[int, int]]) -> None:
    begins, lengths = np.array(slices, dtype=np.int64).reshape(-1, 2).T
    expected = [number for begin, length in slices for number in range(begin, begin + length)]
    assert ranges(begins, lengths).tolist() == expected


@pytest.mark.parametrize("has_numba", [True, False], ids=["loops", "operations"])
@given(SLICES)
def test_concatenated_slices_are_python_slices(has_numba: bool, slices: list[tuple[int, int]]) -> None:
    source = np.arange(50, dtype=np.int32)
    begins, lengths = np.array(slices, dtype=np.int64).reshape(-1, 2).T
    expected = [number for begin, length in slices for number in source[begin : begin + length].tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "HAS_NUMBA", has_numba)
        concatenated = concatenate_slices(source, begins, lengths)
    assert concatenated.dtype == np.int32
    assert concatenated.tolist() == expected
