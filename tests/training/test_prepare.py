from pathlib import Path

import pytest
from datasets import DatasetDict
from transformers import (
    AutoTokenizer,
)

from kr_text.data.sources import load
from training_cases import Train


def test_the_report_counts_the_rows_that_were_used(tmp_path: Path, train_small: Train) -> None:
    flags = ["--max_train_rows", "50", "--validation_size", "30", "--num_train_epochs", "1"]
    data = train_small(tmp_path, *flags)["dataset"]
    assert (data["num_train_rows"], data["num_validation_rows"], data["num_test_rows"]) == (50, 30, 60)


@pytest.mark.parametrize("char_ngram", [0, 4])
def test_the_tokenizer_is_built_from_training_rows_only(
    news: Path, tmp_path: Path, train_small: Train, char_ngram: int
) -> None:
    flags = ["--config_overrides", f"num_buckets=50,char_ngram={char_ngram}", "--num_train_epochs", "1"]
    train_small(tmp_path, *flags)
    data = load(news)
    seen = {word for text in data["train"]["text"] for word in text.split()}
    vocab = set(AutoTokenizer.from_pretrained(tmp_path).get_vocab()) - {"[PAD]", "[UNK]"}
    parts = vocab - seen
    assert vocab - parts == seen
    assert bool(parts) == bool(char_ngram)
    assert all(any(part.removeprefix("##") in word for word in seen) for part in parts)
    assert isinstance(data, DatasetDict)


@pytest.mark.parametrize(("num_unknown", "share"), [(1, None), (2, "10.0%")])
def test_more_than_5_percent_unknown_words_in_the_validation_rows_are_one_line(
    num_unknown: int, share: str | None, tmp_path: Path, train_small: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """Two validation rows of ten words each, one or two of which are not in the training rows."""
    new = ["zebra", "yak"][:num_unknown]
    words = [f"{'the bank ' * 4}of {word}" for word in [*new, "city"][:2]]
    files = {"train": ["the bank of the city", "the city of the bank"] * 10, "validation": words, "test": words}
    for split, texts in files.items():
        rows = "".join(f"{text},{row % 2}\n" for row, text in enumerate(texts))
        (tmp_path / f"{split}.csv").write_text("text,label\n" + rows)
    flags = ["--config_overrides", "num_buckets=1000,char_ngram=0", "--loss", "ce", "--num_train_epochs", "1"]
    train_small(tmp_path / "run", "--dataset", str(tmp_path), *flags)
    lines = [message for message in caplog.messages if "unknown" in message]
    way_out = "the training rows lack these words; more rows or a pretrained model (--model) know more"
    expected = f"{share} of the tokens of the validation rows are unknown: {way_out}"
    assert lines == ([expected] if share else [])
