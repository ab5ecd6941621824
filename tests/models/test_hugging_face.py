"""The classifiers in the Auto classes, the pipeline and the Trainer of transformers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    pipeline,
)

from kr_text.models import MODELS
from kr_text.text.tokenization import character_tokenizer, word_tokenizer
from model_cases import SIZES, make_model, make_random_model

SENTENCES = ["The cat sat on the mat.", "Shares fell, again", "cat", "", "mat " * 500]


@pytest.fixture
def tokenizer(model_name: str) -> PreTrainedTokenizerFast:
    if model_name == "charcnn":
        return character_tokenizer(max_length=150)
    return word_tokenizer([SENTENCES], vocab_size=30, max_length=12)


def probabilities(output: list[dict[str, Any]]) -> Tensor:
    """The pipeline's output for a text, in the order of the labels."""
    scores = {entry["label"]: entry["score"] for entry in output}
    return torch.tensor([scores[f"LABEL_{label}"] for label in range(3)])


def test_auto_classes_load_config_model_and_tokenizer(
    model_name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    names = {0: "World", 1: "Sports", 2: "Business"}
    model = make_random_model(model_name, id2label=names, label2id={label: index for index, label in names.items()})
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config_class, model_class = MODELS[model_name]
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is config_class
    assert config.id2label == names
    assert {key: getattr(config, key) for key in SIZES[model_name]} == SIZES[model_name]
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is model_class
    assert AutoTokenizer.from_pretrained(tmp_path)(SENTENCES)["input_ids"] == tokenizer(SENTENCES)["input_ids"]


def test_the_pipeline_gives_the_models_probabilities(
    model_name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = make_random_model(model_name, vocab_size=80)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = torch.cat(
        [
            F.softmax(model(**tokenizer([text], truncation=True, return_tensors="pt")).logits, dim=1)
            for text in SENTENCES
        ]
    )
    classify: Any = pipeline("text-classification", model=str(tmp_path), device="cpu")
    for text, row in zip(SENTENCES, expected, strict=True):
        torch.testing.assert_close(probabilities(classify(text, top_k=None, truncation=True)), row)
    for batch_size in (1, 2, 5):
        outputs = classify(SENTENCES, top_k=None, truncation=True, batch_size=batch_size)
        torch.testing.assert_close(torch.stack([probabilities(output) for output in outputs]), expected)


def test_the_trainer_trains_every_weight(model_name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make_model(model_name, vocab_size=80, **({"initializer_range": 0.3} if model_name == "charcnn" else {}))
    columns = {**tokenizer(SENTENCES, truncation=True), "label": [0, 1, 2, 0, 1], "text": SENTENCES}
    rows = Dataset.from_dict(columns)
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=5,  # the first moves only FastText's classifier, which starts at zero
        per_device_train_batch_size=len(rows),
        learning_rate=0.01,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model, args, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=rows, eval_dataset=rows
    )
    loss_before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < loss_before - 0.01
    assert [key for key, weight in model.state_dict().items() if torch.equal(weight, before[key])] == []


def test_importing_kr_text_models_registers_the_classifiers() -> None:
    program = """
import sys
import kr_text
assert not {"torch", "transformers", "tokenizers", "kr_text.models"} & sys.modules.keys()
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
names = ["kr_text_fasttext", "kr_text_textrnn", "kr_text_charcnn", "kr_text_transformer"]
assert not any(name in CONFIG_MAPPING for name in names)
import kr_text.models
assert all(name in CONFIG_MAPPING for name in names)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
