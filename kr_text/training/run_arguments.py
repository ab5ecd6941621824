"""What a training run trains, on which data, with which loss: kr-text's own arguments and their checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kr_text.data.split import parse_fold
from kr_text.losses.by_name import NAMES
from kr_text.models import MODELS
from kr_text.ranges import require_at_least
from kr_text.text.alphabet import ALPHABETS
from kr_text.trainer.residual_rate import RESIDUAL_LEARNING_RATE
from kr_text.training.class_weights import BALANCED, read_class_weights
from kr_text.training.computed_recipes import CHOICES
from kr_text.training.recipes import AUTO


def _flag(default: Any, help_text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help_text, **metadata})


@dataclass
class RunArguments:
    """What to train, on which data, with which loss. `TrainingArguments` has the hyper-parameters."""

    _argument_group_name = "what to train"

    model: str = _flag(
        "fasttext",
        f"classifier to train: {', '.join(MODELS)}; or a pretrained model to fine-tune, a folder or an id on the Hub",
    )
    dataset: str = _flag(
        "synthetic_news",
        "ag_news, yahoo_answers, yelp_review_full, synthetic_news, another id on the Hub, a folder with train and test "
        "files, or one file",
    )
    loss: str = _flag(
        "kr-ls",
        "training loss: ce is cross-entropy, ls label smoothing, kr Knowledge Refinery, kr-ls both; the others are "
        "methods to compare with",
        choices=NAMES,
    )
    loss_overrides: str | None = _flag(
        None, "settings of the loss: NAME=VALUE,NAME=VALUE, such as alpha=0.3,until=2,label_smoothing=0.2"
    )
    residual_learning_rate: float = _flag(
        RESIDUAL_LEARNING_RATE, "peak learning rate of the residual matrix, or of other parameters that the loss learns"
    )
    teacher: str | None = _flag(
        None, "trained classifier to distill, for loss kd only: a folder or a Hub id; the model may be of any kind"
    )
    text_column: str | None = _flag(None, "column with the text; several columns, separated by commas, are joined")
    label_column: str | None = _flag(None, "column with the class")
    validation_size: float | None = _flag(
        None,
        "rows to split off train for validation, and again for test, where the data have no such split: a share or a "
        "number of rows; default: 0.1, at most 5,000 rows",
    )
    fold: str | None = _flag(
        None,
        "fold of a cross-validation, such as 2/5: all rows are put together and cut into 5 folds; the second is test",
    )
    strict: bool = _flag(
        False,
        "refuse rows without a text or a known label, which are left out otherwise, and a test split without labels",
    )
    recipe: str = _flag(
        AUTO,
        "settings that are not given: auto computes them from the training rows, or takes the recipe of a benchmark "
        "that is given by its name; benchmarks are the settings that all benchmarks share",
        choices=CHOICES,
    )
    max_train_rows: int | None = _flag(None, "train on this many rows, drawn at random with seed 0")
    max_length: int | None = _flag(None, "truncate texts to this many tokens (characters for charcnn)")
    alphabet: str = _flag(
        "auto",
        "characters that charcnn reads: zhang is the paper's 69 ASCII characters, data the most frequent characters of "
        "the training texts; auto is data if more than one character in 20 is not in zhang",
        choices=ALPHABETS,
    )
    long_texts: str = _flag(
        "truncate",
        "how to read a text longer than max_length: truncate it, or read it in overlapping windows, each a training "
        "row of its own, and average their probabilities",
        choices=("truncate", "windows"),
    )
    stride: int | None = _flag(
        None, "tokens that neighbouring windows of a long text share; default: a quarter of max_length"
    )
    word_vectors: str | None = _flag(
        None, "initialize the word embeddings from this file, in the text format of GloVe or word2vec"
    )
    config_overrides: str | None = _flag(
        None, "settings of the model: NAME=VALUE,NAME=VALUE, such as hidden_size=256,dropout=0.2"
    )
    class_weights: Mapping[str, float] | str | None = _flag(
        None,
        "weight of each class in the training loss: balanced, NAME=WEIGHT,NAME=WEIGHT, or a .csv, .json or .yaml file "
        "of names and weights; a class that is not named has weight 1; the metrics stay unweighted",
    )
    class_sampling: str | None = _flag(
        None,
        "balanced draws as many training rows from every class, so that rows of small classes repeat",
        choices=[BALANCED],
    )
    early_stopping_patience: int | None = _flag(
        None, "stop training after this many evaluations in a row without a better metric_for_best_model; 0: never"
    )
    train_on_validation: bool = _flag(
        False,
        "train on the validation rows too, and keep the last epoch: for the final model, once its settings are chosen",
    )
    label_matrices: bool = _flag(False, "report each class's mean prediction on the validation rows after every epoch")
    resume: bool = _flag(False, "resume from the last checkpoint in output_dir")
    overwrite: bool = _flag(False, "replace the run in output_dir")

    def __post_init__(self) -> None:
        self.loss_overrides, self.teacher = self.loss_overrides or None, self.teacher or None
        if self.loss not in NAMES:
            raise ValueError(f"loss must be one of {', '.join(NAMES)}, got {self.loss!r}")
        if self.loss == "kd" and self.teacher is None:
            raise ValueError("teacher must be given for loss kd, got none: a trained classifier's folder or Hub id")
        if self.loss != "kd" and self.teacher is not None:
            raise ValueError(f"teacher must be left out for loss {self.loss}, got {self.teacher}; loss kd takes one")
        if self.alphabet != "auto" and self.model != "charcnn":
            raise ValueError(f"alphabet must be left out for {self.model}, got {self.alphabet}; charcnn takes one")
        if self.validation_size is not None and self.validation_size >= 1 and float(self.validation_size).is_integer():
            self.validation_size = int(self.validation_size)
        if self.fold is not None:
            parse_fold(self.fold)
        if self.max_length is not None:
            require_at_least(1, max_length=self.max_length)
        if "class_weights" in (self.loss_overrides or ""):
            raise ValueError(
                f"loss_overrides must not have class_weights, got {self.loss_overrides}; give --class_weights"
            )
        if self.class_weights is not None:
            self.class_weights = read_class_weights(self.class_weights)
        if self.class_sampling == BALANCED == self.class_weights:
            raise ValueError("class_sampling must be left out with class_weights balanced: one of them is enough")
        if self.early_stopping_patience is not None:
            require_at_least(0, early_stopping_patience=self.early_stopping_patience)
        if self.stride is not None and self.long_texts != "windows":
            raise ValueError(f"stride must be left out without windows, got {self.stride}: give --long_texts windows")
