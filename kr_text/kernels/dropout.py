"""Dropout whose random numbers cost a CPU less."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16


class Dropout(nn.Dropout):
    """As `nn.Dropout`; on a CPU it draws 16 random bits a number, four numbers at once, in a quarter of the time.

    There the share that is dropped is `p` to the nearest of 65,536 levels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training or not self.p or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)  # each in -LEVELS / 2..LEVELS / 2 - 1
        dropped = round(self.p * LEVELS)
        keep = (bits >= dropped - LEVELS // 2).to(x.dtype)
        return x * keep.mul_(LEVELS / (LEVELS - dropped) if dropped < LEVELS else 0.0)
