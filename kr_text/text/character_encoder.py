"""Fast character tokenization with a lookup table of all characters; same ids as the tokenizer."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer, normalizers

from kr_text.text.word_encoder import Words

NUM_CHARACTERS = 0x110000
LAST_WITH_LOWER_CASE = 0x20000  # later characters are their own lower case
TWO_IN_LOWER_CASE = "\u0130"  # the only character whose lower case has two characters
SURROGATES = range(0xD800, 0xE000)


class CharacterEncoder:
    """Encoder with the ids of a tokenizer that composes, lower-cases and looks up each character.

    Args:
        tokenizer: Tokenizer from `character_tokenizer`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocab = tokenizer.get_vocab()
        self.table = np.full(NUM_CHARACTERS, vocab[tokenizer.model.unk_token], dtype=np.int32)
        for character, index in vocab.items():
            if len(character) == 1:
                self.table[ord(character)] = index
        codes = [code for code in range(LAST_WITH_LOWER_CASE) if code not in SURROGATES]
        codes.remove(ord(TWO_IN_LOWER_CASE))
        lower = normalizers.Lowercase().normalize_str("".join(map(chr, codes)))
        self.table[codes] = self.table[np.frombuffer(lower.encode("utf-32-le"), dtype=np.uint32)]

    def __call__(self, texts: pa.Array) -> Words:
        """Ids of each text."""
        if not pc.all(pc.string_is_ascii(texts)).as_py():
            texts = pc.replace_substring(pc.utf8_normalize(texts, "NFC"), TWO_IN_LOWER_CASE, "i\u0307")
        codes = np.frombuffer("".join(texts.to_pylist()).encode("utf-32-le"), dtype=np.uint32)
        return Words(self.table.take(codes), pc.utf8_length(texts).to_numpy().astype(np.int64))
