"""Twins of one small corpus: in each language, only one word of a sentence tells the class."""

import csv
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from training_cases import Train, report_of

# Words without a class, the words of the two classes, and what stands between words.
LANGUAGES: dict[str, tuple[str, tuple[str, str], str]] = {
    "english": ("this week we saw the old house near town", ("cat", "dog"), " "),
    "vietnamese tones": ("hôm nay tôi đi chợ mua rau quả", ("má", "mà"), " "),
    "hindi vowel signs": ("आज हम लोग बाजार गए और घर आए", ("बेल", "बैल"), " "),
    "japanese dakuten": ("きょう わたし は やま に のぼる", ("かき", "かぎ"), ""),
    "chinese": ("今天 我们 一起 去 山上 看", ("太阳", "月亮"), ""),
    "thai": ("วันนี้ เรา เห็น บ้าน ใหญ่ ใกล้ ตลาด", ("หมา", "แมว"), ""),
    "thai tones": ("วันนี้ เรา เห็น บ้าน ใหญ่ ใกล้ ตลาด", ("ขาว", "ข้าว"), ""),
    "lao": ("ມື້ນີ້ ພວກເຮົາ ເຫັນ ເຮືອນ ໃຫຍ່", ("ໝາ", "ແມວ"), ""),
    "khmer": ("ថ្ងៃនេះ យើង ឃើញ ផ្ទះ ធំ", ("ឆ្កែ", "ឆ្មា"), ""),
    "burmese": ("ဒီနေ့ ကျွန်တော် အိမ် ကြီး မြင်", ("ခွေး", "ကြောင်"), ""),
}


def corpus(folder: Path, language: str, num_train: int = 300, num_test: int = 100) -> Path:
    """A folder with train.csv and test.csv of two classes."""
    filler, words, blank = LANGUAGES[language]
    generator = random.Random(0)
    folder.mkdir()
    for split, size in (("train", num_train), ("test", num_test)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for row in range(size):
                sentence = generator.choices(filler.split(), k=6)
                sentence.insert(generator.randrange(7), words[row % 2])
                writer.writerow([blank.join(sentence), f"class {row % 2}"])
    return folder


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_learned_like_its_english_twin(
    language: str, tmp_path: Path, kr_text: Callable[..., int]
) -> None:
    data, run = corpus(tmp_path / "data", language), tmp_path / "run"
    flags = ["--learning_rate", "0.5", "--loss", "ce", "--config_overrides", "num_buckets=10000"]
    assert kr_text("train", "--dataset", str(data), "--output_dir", str(run), *flags) == 0
    assert cast(float, report_of(run)["test_metrics"]["error_rate"]) <= 1


@pytest.mark.parametrize(("alphabet", "low", "high"), [("auto", 0, 5), ("zhang", 30, 70)])
def test_charcnn_reads_other_scripts_with_an_alphabet_from_the_texts(
    alphabet: str, low: float, high: float, tmp_path: Path, train_small: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """With its ASCII alphabet, every text is a row of unknown characters."""
    caplog.set_level(logging.INFO, logger="kr_text")
    data = corpus(tmp_path / "data", "chinese", 600)
    flags = ["--model", "charcnn", "--dataset", str(data), "--loss", "ce", "--alphabet", alphabet]
    sizes = ["--config_overrides", "num_filters=64,dense_size=64,num_frames=123,initializer_range=0.1,dropout=0.1"]
    report = train_small(tmp_path / "run", *flags, *sizes, "--num_train_epochs", "5", "--learning_rate", "0.003")
    assert low <= cast(float, report["test_metrics"]["error_rate"]) <= high
    unknown = "100.0% of the tokens of the validation rows are unknown: give --alphabet data, or more training rows"
    assert (unknown in caplog.messages) == (alphabet == "zhang")
    assert sum("not in CharCNN's ASCII alphabet" in message for message in caplog.messages) == 1
