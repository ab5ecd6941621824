"""Padding: every classifier first moves the tokens of a row to its left end."""

import torch
from torch import Tensor, nn


def left_align(input_ids: Tensor, attention_mask: Tensor | None, pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Moves the tokens of each row to its left end, in order, so that the place of padding does not matter.

    Args:
        input_ids: (batch, seq_len).
        attention_mask: (batch, seq_len), 1 keep, 0 pad; None keeps every token other than `pad_token_id`.
        pad_token_id: Id that fills each row after its tokens.

    Returns:
        input_ids: (batch, max(seq_len, 1)).
        lengths: (batch,), number of tokens of each row; 0 for an empty text.
    """
    if input_ids.shape[1] == 0:  # the models need at least one position
        lengths = input_ids.new_zeros(input_ids.shape[0], dtype=torch.long)
        return input_ids.new_full((input_ids.shape[0], 1), pad_token_id), lengths
    keep = input_ids != pad_token_id if attention_mask is None else attention_mask.bool()
    kept_first = torch.argsort(keep, dim=1, descending=True, stable=True)  # stable: kept tokens stay in order
    return input_ids.masked_fill(~keep, pad_token_id).gather(1, kept_first), keep.sum(dim=1)


def zero_padding_row(embedding: nn.Embedding) -> None:
    """Zeroes the row of `padding_idx` in a new table, but not in a table that `from_pretrained` has loaded."""
    if not getattr(embedding.weight, "_is_hf_initialized", False):  # transformers sets this on loaded weights
        with torch.no_grad():
            embedding.weight[embedding.padding_idx].zero_()
