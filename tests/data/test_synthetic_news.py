import time

import numpy as np
import pytest

from kr_text.data.synthetic_news import SyntheticNews, _names_and_vocabulary, _word_probs, synthetic_news


@pytest.fixture(scope="module")
def corpus() -> SyntheticNews:
    return synthetic_news()


def _log_probs(texts: list[str], num_labels: int) -> np.ndarray:
    """log p(x | k) by definition: a sum over words."""
    _, vocabulary = _names_and_vocabulary(num_labels)
    log_word_probs = dict(zip(vocabulary, np.log(_word_probs(num_labels)).T, strict=True))
    return np.stack([sum((log_word_probs[word] for word in text.split()), np.zeros(num_labels)) for text in texts])


def test_columns_sizes_and_class_names_are_as_documented(corpus: SyntheticNews) -> None:
    assert {split: dataset.num_rows for split, dataset in corpus.dataset.items()} == {"train": 4000, "test": 2000}
    assert corpus.dataset["train"].column_names == ["text", "label"]
    assert corpus.dataset["train"].features["label"].names == [
        *("business", "economy", "politics", "sports", "science", "technology")
    ]


def test_classes_are_balanced(corpus: SyntheticNews) -> None:
    assert np.ptp(np.bincount(corpus.dataset["train"]["label"])) <= 1


def test_texts_have_the_stated_length(corpus: SyntheticNews) -> None:
    lengths = [len(text.split()) for text in corpus.dataset["train"]["text"]]
    assert (min(lengths), max(lengths)) == (12, 36)
    assert np.mean(lengths) == pytest.approx(24, abs=0.5)


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another(corpus: SyntheticNews) -> None:
    assert synthetic_news(seed=0).dataset["train"][:] == corpus.dataset["train"][:]
    assert synthetic_news(seed=1).dataset["train"][:] != corpus.dataset["train"][:]


def test_test_texts_do_not_depend_on_num_train(corpus: SyntheticNews) -> None:
    assert synthetic_news(num_train=100).dataset["test"][:] == corpus.dataset["test"][:]


def test_no_test_text_is_a_train_text(corpus: SyntheticNews) -> None:
    assert not set(corpus.dataset["test"]["text"]) & set(corpus.dataset["train"]["text"])


def test_word_probabilities_sum_to_one_and_are_positive() -> None:
    probs = _word_probs(17)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0)
    assert (probs > 0).all()


def test_words_follow_the_stated_probabilities() -> None:
    dataset = synthetic_news(num_train=12_000, seed=3).dataset["train"]
    names, vocabulary = _names_and_vocabulary(6)
    words = [text.split() for text, label in zip(dataset["text"], dataset["label"], strict=True) if label == 1]
    drawn = np.array([vocabulary.index(word) for text in words for word in text])
    frequencies = np.bincount(drawn, minlength=len(vocabulary)) / drawn.size
    np.testing.assert_allclose(frequencies, _word_probs(len(names))[1], atol=0.004)


def test_bayes_error_is_between_5_and_10_percent(corpus: SyntheticNews) -> None:
    assert 0.05 < corpus.bayes_error_rate < 0.10


def test_bayes_error_is_the_error_of_the_exact_posterior(corpus: SyntheticNews) -> None:
    test = corpus.dataset["test"]
    predicted = _log_probs(test["text"], 6).argmax(axis=1)
    assert corpus.bayes_error_rate == np.mean(predicted != np.array(test["label"]))


def test_naive_bayes_has_an_error_between_bayes_error_and_15_percent(corpus: SyntheticNews) -> None:
    _, vocabulary = _names_and_vocabulary(6)
    counts = {word: np.ones(6) for word in vocabulary}
    for text, label in zip(corpus.dataset["train"]["text"], corpus.dataset["train"]["label"], strict=True):
        for word in text.split():
            counts[word][label] += 1
    totals = np.sum(list(counts.values()), axis=0)
    scores = [sum(np.log(counts[word] / totals) for word in text.split()) for text in corpus.dataset["test"]["text"]]
    error_rate = np.mean(np.argmax(scores, axis=1) != np.array(corpus.dataset["test"]["label"]))
    assert corpus.bayes_error_rate <= error_rate < 0.15


def test_class_relations_are_the_class_means_of_the_residual_posterior(corpus: SyntheticNews) -> None:
    train = corpus.dataset["train"]
    probs = np.exp(_log_probs(train["text"], 6))
    expected = np.zeros((6, 6))
    for row, label in zip(probs, train["label"], strict=True):
        others = [other for other in range(6) if other != label]
        expected[label, others] += row[others] / row[others].sum()
    expected /= np.bincount(train["label"])[:, None]
    np.testing.assert_allclose(corpus.class_relations, expected, rtol=1e-6)


@pytest.mark.parametrize("num_labels", [2, 3, 6, 30])
def test_class_relations_are_residual_labels(num_labels: int) -> None:
    relations = synthetic_news(num_train=600, num_test=10, num_labels=num_labels).class_relations
    assert relations.shape == (num_labels, num_labels)
    assert (relations >= 0).all()
    np.testing.assert_array_equal(np.diag(relations), 0.0)
    np.testing.assert_allclose(relations.sum(axis=1), 1.0)


def test_business_and_economy_are_similar_and_so_are_science_and_technology(corpus: SyntheticNews) -> None:
    nearest = corpus.class_relations.argmax(axis=1)
    assert nearest.tolist()[:2] == [1, 0]
    assert nearest.tolist()[4:] == [5, 4]
    assert corpus.class_relations[0, 1] > 5 * corpus.class_relations[0, 3]


@pytest.mark.parametrize("label_noise", [0.0, 0.25, 0.9])
def test_label_noise_replaces_the_given_share_of_train_labels(corpus: SyntheticNews, label_noise: float) -> None:
    noisy = synthetic_news(label_noise=label_noise)
    wrong = np.array(noisy.dataset["train"]["label"]) != np.array(corpus.dataset["train"]["label"])
    assert wrong.mean() == label_noise


def test_label_noise_changes_no_texts_test_labels_or_relations(corpus: SyntheticNews) -> None:
    noisy = synthetic_news(label_noise=0.4)
    assert noisy.dataset["train"]["text"][:] == corpus.dataset["train"]["text"][:]
    assert noisy.dataset["test"][:] == corpus.dataset["test"][:]
    np.testing.assert_array_equal(noisy.class_relations, corpus.class_relations)


def test_noisy_labels_are_uniform_over_the_other_classes() -> None:
    clean = np.array(synthetic_news(num_train=30_000).dataset["train"]["label"])
    noisy = np.array(synthetic_news(num_train=30_000, label_noise=0.9).dataset["train"]["label"])
    moves = np.bincount((noisy - clean) % 6, minlength=6)[1:] / clean.size
    np.testing.assert_allclose(moves, 0.9 / 5, atol=0.01)


def test_a_thousand_classes_have_distinct_names_and_words() -> None:
    names, vocabulary = _names_and_vocabulary(1000)
    assert len(set(names)) == 1000
    assert len(set(vocabulary)) == len(vocabulary)


def test_a_hundred_classes_are_generated() -> None:
    corpus = synthetic_news(num_labels=100)
    assert corpus.dataset["train"].features["label"].num_classes == 100
    assert 0.02 < corpus.bayes_error_rate < 0.15


def test_a_hundred_thousand_texts_take_seconds() -> None:
    start = time.perf_counter()
    synthetic_news(num_train=100_000)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_labels": 1}, r"num_labels must be in 2\.\.1000, got 1"),
        ({"num_labels": 1001}, r"num_labels must be in 2\.\.1000, got 1001"),
        ({"num_train": 5}, "num_train must be at least num_labels, 6, got 5"),
        ({"num_test": 0}, "num_test must be at least 1, got 0"),
        ({"words_per_text": 1}, "words_per_text must be at least 2, got 1"),
        ({"label_noise": 1.0}, r"label_noise must be in \[0, 1\), got 1\.0"),
        ({"label_noise": -0.1}, r"label_noise must be in \[0, 1\), got -0\.1"),
    ],
)
def test_a_setting_out_of_range_is_an_error(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_news(**settings)
