"""Predicts the test rows that have no labels, into a file beside the model."""

import json
import logging
from pathlib import Path

from datasets import Dataset

from kr_text.classifier import Classifier
from kr_text.formats.whole_files import whole_file

logger = logging.getLogger("kr_text")

UNLABELLED_FILE = "unlabelled_test_predictions.jsonl"


def predict_unlabelled(rows: Dataset, folder: Path, batch_size: int) -> None:
    """Writes a JSON line for each row, as `kr-text predict` prints it: its label and the probability of every class.

    Args:
        rows: Rows with the column text.
        folder: Folder of the saved classifier; the file `UNLABELLED_FILE` is written there.
        batch_size: Number of texts per forward pass.
    """
    texts = (text for batch in rows.iter(batch_size=4096) for text in batch["text"])
    with whole_file(folder / UNLABELLED_FILE) as file:
        for prediction in Classifier(str(folder), batch_size=batch_size)(texts):
            file.write(json.dumps(prediction._asdict(), ensure_ascii=False) + "\n")
    logger.info("%s: the predictions for the %d test rows without labels", folder / UNLABELLED_FILE, rows.num_rows)
