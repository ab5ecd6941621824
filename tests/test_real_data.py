"""A short training on real news; where KR_TEXT_DATA names no folder of data sets, there is nothing to collect."""

import os
from pathlib import Path

from kr_text.training.arguments import parse_training
from kr_text.training.train import train

if "KR_TEXT_DATA" in os.environ:

    def test_fasttext_learns_real_news(tmp_path: Path) -> None:
        flags = ["--dataset", f"{os.environ['KR_TEXT_DATA']}/ag_news", "--max_train_rows", "8000", "--seed", "1"]
        flags += ["--per_device_train_batch_size", "256", "--learning_rate", "0.1"]  # else it ends after 20 steps
        run, args = parse_training([*flags, "--output_dir", str(tmp_path), "--disable_tqdm", "true"], "kr-text train")
        report = train(run, args, command="", started=0.0)
        assert report["dataset"]["num_test_rows"] == 7600
        error_rate = report["test_metrics"]["error_rate"]
        assert error_rate is not None
        assert error_rate < 13.0  # 11.0 is usual; without the loss's hard part it is 75
        residual_labels = report["residual_labels"]
        assert residual_labels is not None
        names = report["dataset"]["class_names"]
        business = dict(zip(names, residual_labels[names.index("Business")], strict=True))
        assert business["Sci/Tech"] > business["World"] > business["Sports"]
