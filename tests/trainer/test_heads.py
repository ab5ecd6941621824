"""Classification heads of transformers: trained with KRTrainer, saved, loaded and evaluated."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
    Qwen2Config,
    ResNetConfig,
    RobertaConfig,
    ViTConfig,
    Wav2Vec2Config,
    set_seed,
)

from trainer_cases import NUM_LABELS, VOCAB_SIZE, make_trainer, matrix, training_logs

ENCODER: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
}
DECODER: dict[str, Any] = {**ENCODER, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
MODERN: dict[str, Any] = {**ENCODER, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
DISTIL: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
VIT: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 8,
    "patch_size": 4,
}
RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
WAV2VEC2: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8, 8),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
    "mask_time_prob": 0.0,
}


def texts(generator: torch.Generator) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(3, VOCAB_SIZE, (16, 6), generator=generator)}


def images(generator: torch.Generator) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(16, 3, 8, 8, generator=generator)}


def sounds(generator: torch.Generator) -> dict[str, Tensor]:
    return {"input_values": torch.randn(16, 200, generator=generator)}


HEADS: dict[str, tuple[Any, PreTrainedConfig, Any]] = {
    "bert": (AutoModelForSequenceClassification, BertConfig(**ENCODER), texts),
    "roberta": (AutoModelForSequenceClassification, RobertaConfig(**ENCODER), texts),
    "distilbert": (AutoModelForSequenceClassification, DistilBertConfig(**DISTIL), texts),
    "deberta-v2": (AutoModelForSequenceClassification, DebertaV2Config(**ENCODER), texts),
    "modernbert": (AutoModelForSequenceClassification, ModernBertConfig(**MODERN), texts),
    "electra": (AutoModelForSequenceClassification, ElectraConfig(**ENCODER, embedding_size=8), texts),
    "llama": (AutoModelForSequenceClassification, LlamaConfig(**DECODER), texts),
    "qwen2": (AutoModelForSequenceClassification, Qwen2Config(**DECODER), texts),
    "bert-tokens": (AutoModelForTokenClassification, BertConfig(**ENCODER), texts),
    "resnet": (AutoModelForImageClassification, ResNetConfig(**RESNET), images),
    "vit": (AutoModelForImageClassification, ViTConfig(**VIT), images),
    "wav2vec2": (AutoModelForAudioClassification, Wav2Vec2Config(**WAV2VEC2), sounds),
}


@pytest.mark.filterwarnings("default:.*torch.jit.script.* is deprecated:DeprecationWarning")  # used by older models
@pytest.mark.parametrize("name", HEADS)
def test_head_is_trained_saved_loaded_and_evaluated(tmp_path: Path, name: str) -> None:
    auto_class, config, make_inputs = HEADS[name]
    config.num_labels = NUM_LABELS
    generator = torch.Generator().manual_seed(0)
    columns = make_inputs(generator)
    shape = columns["input_ids"].shape if auto_class is AutoModelForTokenClassification else (16,)
    columns["labels"] = torch.randint(0, NUM_LABELS, shape, generator=generator)
    data = [{column: values[row] for column, values in columns.items()} for row in range(16)]
    set_seed(0)
    model = auto_class.from_config(config)
    trainer = make_trainer(tmp_path, model, data, eval_dataset=data, data_collator=None, num_train_epochs=2)
    trainer.train()
    logged = training_logs(trainer)
    assert len(logged) == 4
    for entry in logged:
        total = entry["loss_hard"] + entry["alpha"] * (entry["loss_residual"] + entry["loss_update"])
        assert entry["loss"] == pytest.approx(total, abs=1e-3)
    assert 0.005 < matrix(trainer).abs().max() < 0.1

    trainer.save_model(str(tmp_path / "saved"))
    logits = cast(Any, trainer.predict(cast(Any, data)).predictions)
    trainer.model = auto_class.from_pretrained(tmp_path / "saved")
    assert type(trainer.model) is type(model)
    assert np.array_equal(cast(Any, trainer.predict(cast(Any, data)).predictions), logits)
