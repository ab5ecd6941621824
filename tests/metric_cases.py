"""Random class probabilities with labels, for the tests of the metrics."""

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

Sample = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels, and probabilities on a coarse grid so that ties and zeros occur."""
    num_rows, num_labels = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    weights = draw(arrays(np.int64, (num_rows, num_labels), elements=st.integers(0, 6)))
    weights[weights.sum(axis=1) == 0] = 1
    labels = draw(arrays(np.int64, num_rows, elements=st.integers(0, num_labels - 1)))
    return weights / weights.sum(axis=1, keepdims=True), labels
