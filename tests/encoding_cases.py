"""Texts and small tokenizers for the tests of encoding and windows."""

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from kr_text.text.tokenization import word_tokenizer

TEXTS = [
    "the bank of the city",
    "",
    "a",
    "b " * 30 + "a " * 10,
    "\u200b",
    "caf\u00e9 \U0001f600, na\u00efve",
    "[PAD] [UNK]",
    "a\nb",
]
LABELS = [0, 1, 2, 0, 1, 2, 0, 1]


def data(texts: list[str] = TEXTS, labels: list[int] = LABELS) -> DatasetDict:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y", "z"])})
    return DatasetDict(train=Dataset.from_dict({"text": texts, "label": labels}, features=features))


def words(max_length: int = 20) -> PreTrainedTokenizerFast:
    return word_tokenizer([TEXTS], vocab_size=30, max_length=max_length)


def with_special_tokens(max_length: int = 20) -> PreTrainedTokenizerFast:
    """Like BERT: a token before and after each text, which count towards the maximum length."""
    tokenizer = words(max_length)
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    ids = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert isinstance(ids[0], int)
    assert isinstance(ids[1], int)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids[0]), ("[SEP]", ids[1])]
    )
    return tokenizer
