"""Compiled loops and other code that only speed needs; PyTorch has an equal for each."""

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.jit._trace import is_tracing

HAS_NUMBA = find_spec("numba") is not None


def takes_loops(table: Tensor) -> bool:
    """Whether the loops of kr_text/row_loops.py can take the place of PyTorch's operations, which give the same."""
    if not HAS_NUMBA or torch.compiler.is_compiling() or is_tracing():
        return False
    return table.device.type == "cpu" and table.dtype in (torch.float32, torch.float64)
