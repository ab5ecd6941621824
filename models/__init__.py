"""Text classifiers and their tokenizer; importing this package registers them with the Auto classes of transformers.

`MODELS` maps each classifier's name on the command line to its config class and its model class. A new classifier is a
file here, an entry in `MODELS`, and a recipe of that name in kr_text/training/recipes.yaml.
"""

from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from kr_text.models.charcnn import CharCNNConfig, CharCNNForSequenceClassification
from kr_text.models.fasttext import FastTextConfig, FastTextForSequenceClassification
from kr_text.models.textrnn import TextRNNConfig, TextRNNForSequenceClassification
from kr_text.models.tokenizer import ClassifierTokenizer
from kr_text.models.transformer import TransformerConfig, TransformerForSequenceClassification

__all__ = [
    "MODELS",
    "CharCNNConfig",
    "CharCNNForSequenceClassification",
    "ClassifierTokenizer",
    "FastTextConfig",
    "FastTextForSequenceClassification",
    "TextRNNConfig",
    "TextRNNForSequenceClassification",
    "TransformerConfig",
    "TransformerForSequenceClassification",
]

MODELS: dict[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "fasttext": (FastTextConfig, FastTextForSequenceClassification),
    "textrnn": (TextRNNConfig, TextRNNForSequenceClassification),
    "charcnn": (CharCNNConfig, CharCNNForSequenceClassification),
    "transformer": (TransformerConfig, TransformerForSequenceClassification),
}

for config_class, model_class in MODELS.values():
    AutoConfig.register(config_class.model_type, config_class)
    AutoModelForSequenceClassification.register(config_class, model_class)
    AutoTokenizer.register(config_class, ClassifierTokenizer)
