from pathlib import Path

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


def test_the_tokenizer_is_built_from_training_rows_only(news: Path, run_folder: Path) -> None:
    data = load(news)
    seen = {word for text in data["train"]["text"] for word in text.split()}
    vocab = set(AutoTokenizer.from_pretrained(run_folder).get_vocab()) - {"[PAD]", "[UNK]"}
    assert vocab == seen
    assert isinstance(data, DatasetDict)
