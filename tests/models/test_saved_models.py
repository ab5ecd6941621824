"""Model folders: what `save_pretrained` writes and `from_pretrained` reads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from model_cases import TEXTS, make_model, make_random_model, padded


def test_a_loaded_model_has_equal_weights_and_logits(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, weight in loaded.state_dict().items():
        assert torch.equal(weight, model.state_dict()[key]), key
    inputs = padded(TEXTS, 15, "left")
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_a_model_folder_holds_config_and_safetensors(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_another_number_of_labels_replaces_the_classifier_alone(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded: Any = type(model).from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert loaded(torch.tensor([[3, 4]])).logits.shape == (1, 5)
    assert not loaded.classifier.bias.any()
    assert loaded.classifier.weight.abs().max() < 2  # Xavier, or zeros
    for key, weight in loaded.state_dict().items():
        assert key.startswith("classifier.") or torch.equal(weight, model.state_dict()[key]), key


@pytest.mark.parametrize("first", [0, 1])
def test_weights_missing_from_a_checkpoint_start_as_in_a_new_model(model_name: str, first: int, tmp_path: Path) -> None:
    model = make_random_model(model_name)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    missing = sorted(saved)[first::2]
    kept = {key: weight for key, weight in saved.items() if key not in missing}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    new, loaded = make_model(model_name).state_dict(), type(model).from_pretrained(tmp_path).state_dict()
    for key, weight in kept.items():
        assert torch.equal(loaded[key], weight), key
    for key in missing:
        if new[key].unique().numel() == 1:  # a bias, a norm, the classifier of FastText
            assert torch.equal(loaded[key], new[key]), key
        else:
            assert 0.5 < loaded[key].std() / new[key].std() < 2, key
            assert torch.equal(loaded[key] == 0, new[key] == 0), key
