import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kr_text.text.alphabet import ZHANG
from kr_text.text.character_encoder import CharacterEncoder
from kr_text.text.encoding import _encoder, _settings
from kr_text.text.tokenization import character_tokenizer

# Letters whose lower case is in the alphabet (Kelvin sign), has two characters, or depends on the position.
# Then letters that are composed with the mark after them.
LETTERS = "abzAZ09-\n \t\u212a\u0130\u0131\u03a3\u00c5\u212b\U0001f600[PAD]Ee\u0301\u304b\u3099\u4e2d"
UNICODE = "abe\u00e9i\u0307\u03c3\u304b\u304c\u3099\u4e2d\U0001f600\U00020000"


@pytest.mark.parametrize("alphabet", [ZHANG, UNICODE], ids=["zhang", "unicode"])
@given(texts=st.lists(st.text(LETTERS, max_size=20) | st.text(max_size=12), max_size=6))
def test_ids_equal_those_of_tokenizers(alphabet: str, texts: list[str]) -> None:
    tokenizer = character_tokenizer(max_length=100, alphabet=alphabet).backend_tokenizer
    tokenizer.encode_special_tokens = True
    words = CharacterEncoder(tokenizer)(pa.array(texts, pa.string()))
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    assert words.lengths.tolist() == [len(ids) for ids in expected]
    assert words.ids.tolist() == [index for ids in expected for index in ids]


@pytest.mark.parametrize("alphabet", [ZHANG, "".join(map(chr, range(0xC0, 0x600)))], ids=["zhang", "unicode"])
def test_every_character_has_the_same_id_as_in_tokenizers(alphabet: str) -> None:
    tokenizer = character_tokenizer(max_length=100, alphabet=alphabet)
    composed = (chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000 and code != 0x130)
    codes = [ord(character) for character in composed if unicodedata.normalize("NFC", character) == character]
    expected = [ids for code in codes for ids in tokenizer.backend_tokenizer.encode(f"-{chr(code)}").ids[1:]]
    encoder = _encoder(**_settings(tokenizer))
    assert isinstance(encoder, CharacterEncoder)
    assert encoder.table[codes].tolist() == expected
