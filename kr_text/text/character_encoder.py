"""Fast character tokenization with a lookup table of all characters; same ids as the tokenizer."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from kr_text.text.word_encoder import Words

NUM_CHARACTERS = 0x110000
LAST_WITH_LOWER_CASE = 0x3000  # no later character has an ASCII lower case


class CharacterEncoder:
    """Encoder with the ids of a tokenizer that lower-cases and looks up each character, like `character_tokenizer`.

    Args:
        tokenizer: Tokenizer whose vocabulary holds ASCII characters and special tokens only.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocab = tokenizer.get_vocab()
        self.table = np.full(NUM_CHARACTERS, vocab[tokenizer.model.unk_token], dtype=np.int32)
        for code in range(LAST_WITH_LOWER_CASE):
            if (lower := chr(code).lower()) in vocab:
                self.table[code] = vocab[lower]

    def __call__(self, texts: pa.Array) -> Words:
        """Ids of each text."""
        texts = pc.replace_substring(
            texts, "\u0130", "i\u0307"
        )  # the only character whose lower case has two characters
        codes = np.frombuffer("".join(texts.to_pylist()).encode("utf-32-le"), dtype=np.uint32)
        return Words(self.table.take(codes), pc.utf8_length(texts).to_numpy().astype(np.int64))
