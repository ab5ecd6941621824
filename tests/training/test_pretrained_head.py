import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)

from kr_text.models import FastTextConfig
from kr_text.text.tokenization import word_tokenizer
from kr_text.training.build import build
from kr_text.training.pretrained_head import class_rows
from kr_text.training.run_arguments import RunArguments

NAMES = ["a", "b", "c"]
IDS = torch.tensor([[2, 3, 4], [4, 2, 3]])
SMALL: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
CONFIGS = {
    "bert": (BertConfig, SMALL),
    "distilbert": (DistilBertConfig, {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}),
    "roberta": (RobertaConfig, SMALL | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}),
    "deberta": (DebertaV2Config, SMALL),
    "fasttext": (FastTextConfig, {"embedding_dim": 8, "num_buckets": 5}),
}


def rows(names: list[str]) -> DatasetDict:
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return DatasetDict(train=Dataset.from_dict({"text": names, "label": range(len(names))}, features=features))


def save(folder: Path, kind: str, names: list[str], *, tokenizer: bool = True, **settings: Any) -> PreTrainedModel:
    """Saves a small random classifier whose head has no zeros, and its tokenizer."""
    config_class, sizes = CONFIGS[kind]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    torch.manual_seed(0)
    config: PreTrainedConfig = config_class(vocab_size=10, **{**sizes, **labels, **settings})
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    for name in class_rows(model):
        torch.nn.init.normal_(model.get_parameter(name))
    model.save_pretrained(folder)
    if tokenizer:
        word_tokenizer([["one two three"]], vocab_size=10, max_length=9).save_pretrained(folder)
    model.eval()
    return model


def load(folder: Path, names: list[str]) -> PreTrainedModel:
    torch.manual_seed(1)
    model = build(RunArguments(model=str(folder)), rows(names))[1]
    model.eval()
    assert model.config.id2label == dict(enumerate(names))
    return model


@torch.no_grad()
def logits(model: PreTrainedModel, names: list[str]) -> dict[str, Tensor]:
    """The logit of each class, by name."""
    return dict(zip(names, model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits.T, strict=True))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="kr_text")
    return caplog


def messages(log: pytest.LogCaptureFixture) -> list[str]:
    """Messages of this library; transformers has its own."""
    return [record.getMessage() for record in log.records if record.name.startswith("kr_text")]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("saved", [["c", "a", "b"], ["b", "a", "c"]])
def test_the_classes_of_a_checkpoint_in_another_order_keep_their_logits(
    kind: str, saved: list[str], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    before, after = logits(save(tmp_path, kind, saved), saved), logits(load(tmp_path, NAMES), NAMES)
    for name in NAMES:
        torch.testing.assert_close(after[name], before[name])
    assert messages(log) == [
        f"{tmp_path}: the classification head is reordered: the checkpoint has the classes of the data in another order"
    ]


@pytest.mark.parametrize("names", [NAMES, ["LABEL_0", "LABEL_1"]])
def test_a_checkpoint_with_the_classes_of_the_data_is_kept(
    names: list[str], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    before, after = logits(save(tmp_path, "bert", names), names), logits(load(tmp_path, names), names)
    assert all(torch.equal(after[name], before[name]) for name in names)
    assert messages(log) == [f"{tmp_path}: the classification head is kept: the checkpoint has the classes of the data"]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("saved", [["LABEL_0", "LABEL_1", "LABEL_2"], ["a", "b", "d"]])
def test_a_checkpoint_with_other_classes_gets_a_new_head_and_keeps_the_rest(
    kind: str, saved: list[str], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    before = save(tmp_path, kind, saved)
    after = load(tmp_path, NAMES)
    head = class_rows(after)
    assert len(head) == 2
    for name, parameter in after.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name)) == (name not in head), name
        assert name not in head or parameter.abs().max() < 0.2  # as a model that is not trained
    assert messages(log) == [
        f"{tmp_path}: the classification head is new: the checkpoint has other classes, {', '.join(saved)}"
    ]


@pytest.mark.parametrize("saved", [["a", "b"], ["a", "b", "c", "d"]])
def test_a_checkpoint_with_another_number_of_classes_gets_a_new_head(
    saved: list[str], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, "bert", saved)
    assert load(tmp_path, NAMES).get_parameter("classifier.weight").abs().max() < 0.2
    assert messages(log) == [
        f"{tmp_path}: the classification head is new: the checkpoint has none for this number of classes"
    ]


def test_a_checkpoint_without_a_head_gets_a_new_one(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """Its classes have the names LABEL_0, LABEL_1, ..., which are not those of a head."""
    save(tmp_path, "bert", ["LABEL_0", "LABEL_1"])
    AutoModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert load(tmp_path, ["LABEL_1", "LABEL_0"]).get_parameter("classifier.weight").abs().max() < 0.2
    assert len(messages(log)) == 1
    assert "new: the checkpoint has none" in messages(log)[0]


def test_a_hidden_layer_as_wide_as_the_number_of_classes_is_not_the_head(tmp_path: Path) -> None:
    names = [*"abcdefgh"]
    saved = names[::-1]
    before, after = logits(save(tmp_path, "roberta", saved), saved), logits(load(tmp_path, names), names)
    for name in names:
        torch.testing.assert_close(after[name], before[name])


def test_a_multi_label_checkpoint_is_set_to_single_label(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    save(tmp_path, "bert", NAMES, problem_type="multi_label_classification")
    model = load(tmp_path, NAMES)
    assert model.config.problem_type == "single_label_classification"
    assert model(input_ids=IDS, labels=torch.tensor([0, 1])).loss.shape == ()
    assert "its problem type is set from multi_label_classification to single_label_classification" in messages(log)[0]


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "deberta"])
def test_a_folder_without_tokenizer_files_is_refused(kind: str, tmp_path: Path) -> None:
    save(tmp_path, kind, NAMES, tokenizer=False)
    with pytest.raises(ValueError, match=r"^model must have a tokenizer with a vocabulary, got .* files are missing$"):
        load(tmp_path, NAMES)
