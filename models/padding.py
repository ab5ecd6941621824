"""Where padding goes: every classifier here first moves the tokens of a row to its left end."""

import torch
from torch import Tensor, nn


def left_align(input_ids: Tensor, attention_mask: Tensor | None, pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Moves each row's tokens to the left, in their order, so that a row means the same wherever its padding stood.

    Args:
        input_ids: (batch, seq_len).
        attention_mask: (batch, seq_len), 1 keep, 0 pad; None keeps every token that is not `pad_token_id`.
        pad_token_id: fills what the mask leaves out.

    Returns:
        input_ids: (batch, max(seq_len, 1)), with `pad_token_id` at every position past the row's length.
        lengths: (batch,), the number of tokens kept; 0 for an empty text.
    """
    keep = input_ids != pad_token_id if attention_mask is None else attention_mask.bool()
    if input_ids.shape[1] == 0:
        input_ids = input_ids.new_full((input_ids.shape[0], 1), pad_token_id)
        keep = torch.zeros_like(input_ids, dtype=torch.bool)
    order = torch.argsort(keep, dim=1, descending=True, stable=True)
    input_ids = input_ids.masked_fill(~keep, pad_token_id).gather(1, order)
    return input_ids, keep.sum(dim=1)


def zero_padding_row(embedding: nn.Embedding) -> None:
    """Zeroes the row of `padding_idx` in a table that was drawn, and not in one that `from_pretrained` has read."""
    if not getattr(embedding.weight, "_is_hf_initialized", False):  # as transformers does, whose mark it is
        with torch.no_grad():
            embedding.weight[embedding.padding_idx].zero_()
