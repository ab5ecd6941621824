"""The choice between loops that numba compiles and PyTorch's operations, which compute the same."""

import logging
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.jit._trace import is_tracing

HAS_NUMBA = find_spec("numba") is not None  # numba has no builds for some platforms and new versions of Python

logger = logging.getLogger("kr_text")


def use_compiled_loops(table: Tensor) -> bool:
    """Whether compiled loops process `table`, which must be float32 or float64 on a CPU.

    Logs one warning per process if only numba is missing.
    """
    if torch.compiler.is_compiling() or is_tracing():
        return False
    if table.device.type != "cpu" or table.dtype not in (torch.float32, torch.float64):
        return False
    if not HAS_NUMBA:
        _warn_without_numba()
    return HAS_NUMBA


@cache
def _warn_without_numba() -> None:
    logger.warning("numba is not installed, so FastText runs more slowly on a CPU: `pip install numba`")
