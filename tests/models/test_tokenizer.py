"""ClassifierTokenizer: loaded, saved, and called as the pipeline of transformers calls it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import processors
from transformers import BertConfig, PreTrainedTokenizerFast

from kr_text.models.tokenizer import ClassifierTokenizer, classifier_tokenizer, window_stride
from kr_text.text.tokenization import character_tokenizer, word_tokenizer

TEXTS = ["the cat sat on the mat", "", "[PAD] [UNK]", "cat " * 30]


def bert_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer([TEXTS], vocab_size=20, max_length=8)
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    specials = [("[CLS]", tokenizer.cls_token_id), ("[SEP]", tokenizer.sep_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=specials
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


@pytest.fixture(params=["words", "characters", "special tokens", "left"])
def plain(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    if request.param == "characters":
        return character_tokenizer(max_length=8)
    if request.param == "special tokens":
        return bert_tokenizer()
    tokenizer = word_tokenizer([TEXTS], vocab_size=20, max_length=8)
    if request.param == "left":
        tokenizer.padding_side = tokenizer.truncation_side = "left"
    return tokenizer


def saved(plain: PreTrainedTokenizerFast, folder: Path, stride: int | None = None) -> Path:
    """Saves a classifier's tokenizer beside the config of a BERT."""
    classifier_tokenizer(plain, stride).save_pretrained(folder)
    BertConfig().save_pretrained(folder)
    return folder


def test_it_encodes_as_the_tokenizer_that_it_copies(plain: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    ours = classifier_tokenizer(plain, None)
    loaded = ClassifierTokenizer.from_pretrained(saved(plain, tmp_path))
    for tokenizer in (ours, loaded):
        for cut in (True, False):
            settings = {"truncation": cut, "padding": True}
            assert dict(tokenizer(TEXTS, **settings)) == dict(plain(TEXTS, **settings))


def test_it_truncates_unless_told_otherwise(plain: PreTrainedTokenizerFast) -> None:
    tokenizer = classifier_tokenizer(plain, None)
    assert len(tokenizer(TEXTS[3])["input_ids"]) == 8
    assert len(tokenizer(text=TEXTS[3], max_length=5)["input_ids"]) == 5
    assert tokenizer(TEXTS[3], truncation=False)["input_ids"] == plain(TEXTS[3])["input_ids"]
    assert len(plain(TEXTS[3])["input_ids"]) > 8


@pytest.mark.parametrize("stride", [None, 0, 3])
def test_the_stride_of_windows_is_saved(plain: PreTrainedTokenizerFast, tmp_path: Path, stride: int | None) -> None:
    folder = saved(plain, tmp_path / "once", stride)
    loaded = ClassifierTokenizer.from_pretrained(folder)
    assert window_stride(loaded) == stride
    loaded.save_pretrained(tmp_path / "twice")
    assert window_stride(ClassifierTokenizer.from_pretrained(tmp_path / "twice")) == stride
    assert window_stride(classifier_tokenizer(loaded, 1)) == 1
    assert window_stride(PreTrainedTokenizerFast.from_pretrained(folder)) == stride  # as older transformers load it
    assert window_stride(plain) is None


def test_without_kr_text_transformers_loads_a_plain_tokenizer(
    tmp_path: Path, shell: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    plain = bert_tokenizer()
    code = (
        "import sys; from transformers import AutoTokenizer; "
        f"tokenizer = AutoTokenizer.from_pretrained({str(saved(plain, tmp_path))!r}); "
        f"print(tokenizer({TEXTS!r}, truncation=True)['input_ids'], 'kr_text' in sys.modules)"
    )
    done = shell("-c", code)
    assert done.stdout.strip() == f"{plain(TEXTS, truncation=True)['input_ids']} False", done.stderr
