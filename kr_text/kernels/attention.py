"""Scaled dot-product attention that is fast under autocast on a CPU too."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Computes softmax(query key^T / sqrt(head_size)) value over the visible positions.

    Under autocast on a CPU it uses `attention_by_products`: on texts of 34 to 256 words PyTorch's fused kernels take up
    to 7 times as long in bf16. Elsewhere it uses `F.scaled_dot_product_attention`.

    Args:
        query: (batch, num_heads, seq_len, head_size), as `key` and `value`.
        key: See `query`.
        value: See `query`.
        visible: Boolean, broadcast to (batch, num_heads, seq_len, seq_len): False where a position is ignored.
    """
    if torch.is_autocast_enabled("cpu"):
        return attention_by_products(query, key, value, visible)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)


def attention_by_products(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """`attention` as two matrix products and a softmax, in the precision of its arguments."""
    with torch.autocast("cpu", enabled=False):
        mask = torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, torch.finfo(query.dtype).min)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        mixed: Tensor = (scores + mask).softmax(-1) @ value
        return mixed
