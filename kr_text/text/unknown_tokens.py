"""Unknown tokens: words or characters that a tokenizer has no id for, so that a model cannot tell them apart."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerFast

MAX_UNKNOWN = 0.05  # a larger share of unknown tokens is worth a message
WHITE_SPACE = r"[\t\v\f\r\x85\p{Z}]"  # a newline is in the alphabets of CharCNN


def unknown_share(tokenizer: PreTrainedTokenizerFast, ids: pa.ChunkedArray, texts: pa.ChunkedArray) -> float:
    """Share of unknown tokens among the tokens of texts, without special tokens, and without white space.

    Args:
        tokenizer: Tokenizer of the texts.
        ids: Token ids of each text, truncated to the tokenizer's length.
        texts: The texts.

    Returns:
        The share, in 0..1; 0 if the tokenizer has no id for unknown tokens alone (byte-level BPE).
    """
    unknown, special = tokenizer.unk_token_id, tokenizer.all_special_ids
    others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    if unknown is None or unknown in others:
        return 0.0
    flat = pc.list_flatten(ids).to_numpy()
    num_unknown = int(np.count_nonzero(flat == unknown))
    num_tokens = num_unknown + int(np.count_nonzero(~np.isin(flat, special)))
    if tokenizer(" ", add_special_tokens=False)["input_ids"] == [unknown]:  # characters: CharCNN reads a blank as zeros
        kept = pc.utf8_slice_codeunits(texts, 0, tokenizer.model_max_length)
        blanks = pc.sum(pc.count_substring_regex(kept, WHITE_SPACE)).as_py() or 0
        num_unknown, num_tokens = num_unknown - blanks, num_tokens - blanks
    return num_unknown / max(1, num_tokens)
