"""Character tokenization of many texts by a table of all characters, for tokenizers of `character_tokenizer`'s kind."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from kr_text.text.word_encoder import Words

NUM_CHARACTERS = 0x110000
LAST_WITH_LOWER_CASE = 0x3000  # past which no character's lower case is an ASCII one


class CharacterEncoder:
    """The ids of `tokenizer`, which makes letters small and looks up each character.

    Args:
        tokenizer: with a vocabulary of ASCII characters, beside its special tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocab = tokenizer.get_vocab()
        self.table = np.full(NUM_CHARACTERS, vocab[tokenizer.model.unk_token], dtype=np.int32)
        for code in range(LAST_WITH_LOWER_CASE):
            if (small := chr(code).lower()) in vocab:
                self.table[code] = vocab[small]

    def __call__(self, texts: pa.Array) -> Words:
        """The ids of each text."""
        texts = pc.replace_substring(texts, "\u0130", "i\u0307")  # the one character whose lower case is two
        codes = np.frombuffer("".join(texts.to_pylist()).encode("utf-32-le"), dtype=np.uint32)
        return Words(self.table.take(codes), pc.utf8_length(texts).to_numpy().astype(np.int64))
