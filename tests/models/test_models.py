"""What holds for all four classifiers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    pipeline,
)

from kr_text.models import MODELS, CharCNNConfig, FastTextConfig, TextRNNConfig, TransformerConfig
from kr_text.models.padding import left_align
from kr_text.text.tokenization import character_tokenizer, word_tokenizer

SIZES: dict[str, dict[str, Any]] = {
    "fasttext": {"embedding_dim": 6, "max_ngram": 3, "num_buckets": 50},
    "textrnn": {"embedding_dim": 6, "context_size": 5, "hidden_size": 7},
    "charcnn": {"num_frames": 150, "num_filters": 16, "dense_size": 32},
    "transformer": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
}
TEXTS = [[7, 3, 3, 9, 12, 5, 7, 3, 4, 6, 28], [5, 9], [29], []]
SENTENCES = ["The cat sat on the mat.", "Shares fell, again", "cat", "", "mat " * 500]


def make_model(name: str, **kwargs: Any) -> Any:
    config_class, model_class = MODELS[name]
    return model_class(config_class(**{"vocab_size": 30, "num_labels": 3, **SIZES[name], **kwargs}))


def make_random_model(name: str, **kwargs: Any) -> Any:
    """In eval mode, with weights large enough that every token moves the logits."""
    torch.manual_seed(0)
    model = make_model(name, **kwargs).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str) -> Any:
    return make_random_model(name)


@pytest.fixture
def exact_model(model: PreTrainedModel) -> PreTrainedModel:
    """In float64, where two ways to the same logits differ by less than 1e-10."""
    return model.double()


@pytest.fixture
def tokenizer(name: str) -> PreTrainedTokenizerFast:
    if name == "charcnn":
        return character_tokenizer(max_length=150)
    return word_tokenizer([SENTENCES], vocab_size=30, max_length=12)


def alone(model: PreTrainedModel, texts: list[list[int]] = TEXTS) -> Tensor:
    """The logits of each text in a batch of its own, without padding or mask."""
    return torch.cat([model(torch.tensor([text], dtype=torch.long)).logits for text in texts])


def padded(texts: list[list[int]], seq_len: int, side: str) -> dict[str, Tensor]:
    rows, masks = [], []
    for text in texts:
        blank = [0] * (seq_len - len(text))
        rows.append(text + blank if side == "right" else blank + text)
        masks.append([int(token != 0) for token in rows[-1]])
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}


def probabilities(output: list[dict[str, Any]]) -> Tensor:
    """What the pipeline says of one text, by label."""
    scores = {one["label"]: one["score"] for one in output}
    return torch.tensor([scores[f"LABEL_{label}"] for label in range(3)])


def test_logits_have_a_row_for_each_text_and_a_column_for_each_label(model: PreTrainedModel) -> None:
    output = model(**padded(TEXTS, 11, "right"))
    assert output.logits.shape == (4, 3)
    assert output.loss is None


def test_different_texts_have_different_logits(model: PreTrainedModel) -> None:
    logits = alone(model, [*TEXTS, [9, 5], [6]])
    distances = (logits[:, None] - logits).abs().amax(dim=2) + torch.eye(len(logits))
    assert distances.min() > 1e-3


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("seq_len", [11, 12, 40, 200])
def test_padding_changes_nothing(exact_model: PreTrainedModel, side: str, seq_len: int) -> None:
    logits = exact_model(**padded(TEXTS, seq_len, side)).logits
    torch.testing.assert_close(logits, alone(exact_model), rtol=0, atol=1e-10)


@pytest.mark.parametrize("side", ["right", "left"])
def test_without_a_mask_the_padding_id_is_padding(exact_model: PreTrainedModel, side: str) -> None:
    logits = exact_model(padded(TEXTS, 15, side)["input_ids"]).logits
    torch.testing.assert_close(logits, alone(exact_model), rtol=0, atol=1e-10)


def test_a_masked_token_is_as_if_it_were_not_there(exact_model: PreTrainedModel) -> None:
    masked = exact_model(torch.tensor([[8, 7, 3, 8, 9, 8]]), attention_mask=torch.tensor([[0, 1, 1, 0, 1, 0]]))
    torch.testing.assert_close(masked.logits, alone(exact_model, [[7, 3, 9]]), rtol=0, atol=1e-10)


def test_the_padding_row_starts_at_zero_and_is_never_read(name: str) -> None:
    if name == "charcnn":  # its characters are no table, see test_charcnn.py
        return
    assert not make_model(name).get_input_embeddings().weight[0].any()
    model: Any = make_random_model(name)
    before = model(**padded(TEXTS, 15, "right")).logits
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = 1000.0
    assert torch.equal(model(**padded(TEXTS, 15, "right")).logits, before)


@pytest.mark.parametrize("seq_len", [0, 1, 7])
def test_a_batch_of_empty_texts_has_the_logits_of_an_empty_text(exact_model: PreTrainedModel, seq_len: int) -> None:
    zeros = torch.zeros(2, seq_len, dtype=torch.long)
    expected = alone(exact_model, [[], []])
    assert expected.isfinite().all()
    torch.testing.assert_close(exact_model(zeros).logits, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(exact_model(zeros, attention_mask=zeros).logits, expected, rtol=0, atol=1e-10)


def test_empty_texts_have_finite_gradients(model: PreTrainedModel) -> None:
    model(torch.zeros(2, 0, dtype=torch.long), labels=torch.tensor([0, 1])).loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_left_align_moves_tokens_to_the_left_in_their_order() -> None:
    input_ids, lengths = left_align(torch.tensor([[0, 5, 0, 6], [7, 8, 9, 4]]), None, 0)
    assert input_ids.tolist() == [[5, 6, 0, 0], [7, 8, 9, 4]]
    assert lengths.tolist() == [2, 4]


def test_left_align_keeps_a_padding_id_that_the_mask_keeps() -> None:
    input_ids, lengths = left_align(torch.tensor([[3, 0, 5]]), torch.tensor([[0, 1, 1]]), 0)
    assert input_ids.tolist() == [[0, 5, 0]]
    assert lengths.tolist() == [2]


def test_labels_give_the_plain_mean_cross_entropy(exact_model: PreTrainedModel) -> None:
    labels = torch.tensor([2, 0, 1, 1])
    output = exact_model(**padded(TEXTS, 11, "right"), labels=labels)
    probabilities = output.logits.softmax(dim=1)
    expected = -sum(probabilities[row, label].log() for row, label in enumerate(labels)) / 4
    torch.testing.assert_close(output.loss, expected)


def test_every_parameter_gets_a_gradient(model: PreTrainedModel) -> None:
    model.train()
    torch.manual_seed(0)
    model(**padded(TEXTS, 11, "right"), labels=torch.tensor([2, 0, 1, 1])).loss.backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_the_gradient_of_a_row_does_not_depend_on_the_other_rows(exact_model: PreTrainedModel) -> None:
    exact_model(**padded(TEXTS, 11, "right")).logits[1].sum().backward()
    batched = {key: parameter.grad for key, parameter in exact_model.named_parameters()}
    exact_model.zero_grad()
    exact_model(torch.tensor([TEXTS[1]])).logits.sum().backward()
    for key, parameter in exact_model.named_parameters():
        torch.testing.assert_close(batched[key], parameter.grad, rtol=0, atol=1e-10, msg=key)


def test_eval_mode_is_deterministic_and_dropout_is_for_training(name: str) -> None:
    model, inputs = make_random_model(name), padded(TEXTS, 11, "right")
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    has_dropout = name != "fasttext"
    assert torch.equal(model(**inputs).logits, model(**inputs).logits) != has_dropout


def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    torch.manual_seed(1)
    first = make_model(name).state_dict()
    torch.manual_seed(1)
    second = make_model(name).state_dict()
    torch.manual_seed(2)
    third = make_model(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], third[key]) for key in first)


def test_bf16_autocast_gives_nearly_the_logits_of_float32(model: PreTrainedModel) -> None:
    inputs, labels = padded(TEXTS, 11, "right"), torch.tensor([2, 0, 1, 1])
    expected = model(**inputs).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs, labels=labels)
    output.loss.backward()
    scale = expected.abs().max().item()
    torch.testing.assert_close(output.logits.float(), expected, rtol=0, atol=0.05 * scale)


def test_bf16_weights_give_nearly_the_logits_of_float32(model: PreTrainedModel) -> None:
    inputs = padded(TEXTS, 11, "right")
    expected = model(**inputs).logits
    logits = model.bfloat16()(**inputs).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.1 * expected.abs().max().item())


def test_a_folder_gives_back_every_weight_and_logit_bit_by_bit(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, weight in loaded.state_dict().items():
        assert torch.equal(weight, model.state_dict()[key]), key
    inputs = padded(TEXTS, 15, "left")
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_the_folder_of_a_model_holds_its_config_and_safetensors(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_auto_classes_find_config_model_and_tokenizer(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    names = {0: "World", 1: "Sports", 2: "Business"}
    model = make_random_model(name, id2label=names, label2id={label: index for index, label in names.items()})
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config_class, model_class = MODELS[name]
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is config_class
    assert config.id2label == names
    assert {key: getattr(config, key) for key in SIZES[name]} == SIZES[name]
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is model_class
    assert AutoTokenizer.from_pretrained(tmp_path)(SENTENCES)["input_ids"] == tokenizer(SENTENCES)["input_ids"]


def test_another_number_of_labels_gets_a_fresh_classifier_and_keeps_the_rest(
    model: PreTrainedModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    loaded: Any = type(model).from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert loaded(torch.tensor([[3, 4]])).logits.shape == (1, 5)
    assert not loaded.classifier.bias.any()
    assert loaded.classifier.weight.abs().max() < 2  # Xavier, or zeros
    for key, weight in loaded.state_dict().items():
        assert key.startswith("classifier.") or torch.equal(weight, model.state_dict()[key]), key


@pytest.mark.parametrize("first", [0, 1])
def test_weights_that_a_checkpoint_lacks_start_as_in_a_new_model(name: str, first: int, tmp_path: Path) -> None:
    model = make_random_model(name)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    lacking = sorted(saved)[first::2]
    kept = {key: weight for key, weight in saved.items() if key not in lacking}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    new, loaded = make_model(name).state_dict(), type(model).from_pretrained(tmp_path).state_dict()
    for key, weight in kept.items():
        assert torch.equal(loaded[key], weight), key
    for key in lacking:
        if new[key].unique().numel() == 1:  # a bias, a norm, the classifier of FastText
            assert torch.equal(loaded[key], new[key]), key
        else:
            assert 0.5 < loaded[key].std() / new[key].std() < 2, key
            assert torch.equal(loaded[key] == 0, new[key] == 0), key


def test_pipeline_gives_the_probabilities_of_the_model(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = make_random_model(name, vocab_size=80)
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


def test_a_text_far_longer_than_any_other_has_finite_logits(model: PreTrainedModel) -> None:
    assert alone(model, [TEXTS[0] * 300]).isfinite().all()


def test_plain_trainer_trains(name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make_model(name, vocab_size=80, **({"initializer_range": 0.3} if name == "charcnn" else {}))
    columns = {**tokenizer(SENTENCES, truncation=True), "label": [0, 1, 2, 0, 1], "text": SENTENCES}
    rows = Dataset.from_dict(columns)
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=5,  # the first moves only the classifier of FastText, which is zero until then
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


def test_importing_kr_text_registers_nothing_and_importing_its_models_does() -> None:
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


@pytest.mark.parametrize(
    ("config_class", "kwargs", "message"),
    [
        (FastTextConfig, {"vocab_size": 0}, r"vocab_size must be at least 1, got 0"),
        (FastTextConfig, {"embedding_dim": 0}, r"embedding_dim must be at least 1, got 0"),
        (FastTextConfig, {"max_ngram": 0}, r"max_ngram must be at least 1, got 0"),
        (FastTextConfig, {"num_buckets": 0}, r"num_buckets must be at least 1, got 0"),
        (FastTextConfig, {"vocab_size": 9, "pad_token_id": 9}, r"pad_token_id must be in 0\.\.8, got 9"),
        (FastTextConfig, {"num_labels": 1}, r"num_labels must be at least 2, got 1"),
        (TextRNNConfig, {"vocab_size": 0}, r"vocab_size must be at least 1, got 0"),
        (TextRNNConfig, {"embedding_dim": 0}, r"embedding_dim must be at least 1, got 0"),
        (TextRNNConfig, {"context_size": 0}, r"context_size must be at least 1, got 0"),
        (TextRNNConfig, {"hidden_size": -1}, r"hidden_size must be at least 1, got -1"),
        (TextRNNConfig, {"cell": "rnn"}, r"cell must be one of lstm, gru, got 'rnn'"),
        (TextRNNConfig, {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1\.0"),
        (TextRNNConfig, {"pad_token_id": -1}, r"pad_token_id must be in 0\.\.29999, got -1"),
        (TextRNNConfig, {"id2label": {0: "one"}}, r"num_labels must be at least 2, got 1"),
        (CharCNNConfig, {"vocab_size": 2}, r"vocab_size must be at least 3, got 2"),
        (CharCNNConfig, {"num_frames": 122}, r"num_frames must be at least 123, got 122"),
        (CharCNNConfig, {"num_filters": 0}, r"num_filters must be at least 1, got 0"),
        (CharCNNConfig, {"dense_size": 0}, r"dense_size must be at least 1, got 0"),
        (CharCNNConfig, {"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0\.1"),
        (CharCNNConfig, {"initializer_range": 0.0}, r"initializer_range must be above 0, got 0\.0"),
        (CharCNNConfig, {"num_labels": 1}, r"num_labels must be at least 2, got 1"),
        (TransformerConfig, {"vocab_size": 0}, r"vocab_size must be at least 1, got 0"),
        (TransformerConfig, {"hidden_size": 0}, r"hidden_size must be at least 1, got 0"),
        (TransformerConfig, {"hidden_size": 12}, r"hidden_size must be a multiple of 2 \* .* = 8, got 12"),
        (TransformerConfig, {"num_hidden_layers": 0}, r"num_hidden_layers must be at least 1, got 0"),
        (TransformerConfig, {"num_attention_heads": 0}, r"num_attention_heads must be at least 1, got 0"),
        (TransformerConfig, {"intermediate_size": 0}, r"intermediate_size must be at least 1, got 0"),
        (TransformerConfig, {"dropout": 1.5}, r"dropout must be in \[0, 1\), got 1\.5"),
        (TransformerConfig, {"vocab_size": 9, "pad_token_id": 10}, r"pad_token_id must be in 0\.\.8, got 10"),
        (TransformerConfig, {"num_labels": 1}, r"num_labels must be at least 2, got 1"),
    ],
)
def test_a_config_value_out_of_range_is_refused(config_class: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        config_class(**kwargs)


def test_a_config_that_was_edited_by_hand_is_checked_too(name: str, tmp_path: Path) -> None:
    make_model(name).config.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"vocab_size": 30', '"vocab_size": 0'))
    with pytest.raises(ValueError, match="vocab_size must be at least"):
        AutoConfig.from_pretrained(tmp_path)
