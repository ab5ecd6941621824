import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from kr_text.text.character_encoder import CharacterEncoder
from kr_text.text.encoding import _encoder, _settings
from kr_text.text.tokenization import character_tokenizer

# Letters whose lower case is in the alphabet (Kelvin sign), has two characters, or depends on the position.
ALPHABET = "abzAZ09-\n \t\u212a\u0130\u0131\u03a3\u00c5\u212b\U0001f600[PAD]"


@given(st.lists(st.text(ALPHABET, max_size=20) | st.text(max_size=12), max_size=6))
def test_ids_equal_those_of_tokenizers(texts: list[str]) -> None:
    tokenizer = character_tokenizer(max_length=100).backend_tokenizer
    tokenizer.encode_special_tokens = True
    words = CharacterEncoder(tokenizer)(pa.array(texts, pa.string()))
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    assert words.lengths.tolist() == [len(ids) for ids in expected]
    assert words.ids.tolist() == [index for ids in expected for index in ids]


def test_every_character_has_the_same_id_as_in_tokenizers() -> None:
    tokenizer = character_tokenizer(max_length=100)
    codes = [code for code in range(0x20000) if not 0xD800 <= code < 0xE000 and code != 0x130]
    expected = tokenizer.backend_tokenizer.encode("".join(map(chr, codes))).ids
    encoder = _encoder(**_settings(tokenizer))
    assert isinstance(encoder, CharacterEncoder)
    assert encoder.table[codes].tolist() == expected
