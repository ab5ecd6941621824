import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from kr_text.text.encoding import TextEncoder
from kr_text.text.tokenization import character_tokenizer, word_tokenizer
from kr_text.text.unknown_tokens import unknown_share


def share(tokenizer: PreTrainedTokenizerFast, *texts: str) -> float:
    return unknown_share(tokenizer, TextEncoder(tokenizer)(list(texts))["input_ids"], pa.chunked_array([texts]))


def test_unknown_words_are_counted_among_all_words() -> None:
    tokenizer = word_tokenizer([["the cat"]], vocab_size=9, max_length=4)
    assert share(tokenizer, "the dog", "the cat", "") == 0.25
    assert share(tokenizer, "the the the the dog dog dog") == 0  # truncated
    assert share(tokenizer, "") == 0


def test_white_space_is_not_counted_among_characters() -> None:
    tokenizer = character_tokenizer(max_length=8)
    assert share(tokenizer, "a b\tc\u3000d\n") == 0
    assert share(tokenizer, "a \u4e2d \u4e2d c   \u4e2d\u4e2d") == 0.5  # 8 characters are kept


def test_special_tokens_are_not_counted() -> None:
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "the": 4}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    assert share(PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=9, **named), "the dog") == 0.5


@pytest.mark.parametrize("unknown", [None, "<|end|>"])
def test_a_tokenizer_that_knows_every_text_has_no_unknown_tokens(unknown: str | None) -> None:
    """Byte-level BPE, as of GPT-2, whose token for unknown words is its end of text."""
    vocab = {"<|end|>": 0, **{letter: index for index, letter in enumerate("abc", start=1)}}
    backend = Tokenizer(models.BPE(vocab, []))
    backend.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 0)])
    named = {"eos_token": "<|end|>", "unk_token": unknown}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=9, **named)
    assert share(tokenizer, "abc") == 0
