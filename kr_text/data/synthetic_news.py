"""Synthetic news corpus with known class similarities and a known Bayes error, generated from a seed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from scipy.special import logsumexp

from kr_text.data.label_noise import flip
from kr_text.ranges import require_at_least

# Words common to all classes, then the words of each class; the most frequent word comes first.
_COMMON = (
    "the of to in a and for on that with by said from as at it is was new after will has more than year its over first "
    "two be were but up out who about week would could last day people told between since most next some before under"
)
_TOPICS = {
    "business": "company profit shares merger chief sales quarter firm deal investors stock revenue buyout dividend "
    "retailer airline brand bid executive supplier earnings board contract store",
    "economy": "inflation growth jobs rates bank prices deficit exports budget spending wages recession currency "
    "dollar oil treasury imports debt consumers output unemployment tariff bond forecast",
    "politics": "election president vote minister senate party campaign parliament law reform governor ballot policy "
    "coalition congress candidate debate treaty opposition poll embassy cabinet mayor veto",
    "sports": "team game season coach win match league goal player cup final injury champion striker medal tournament "
    "stadium defeat innings race playoff captain referee score",
    "science": "researchers study cells planet species gene climate telescope fossil physics laboratory galaxy orbit "
    "vaccine molecule protein ocean particle experiment brain virus comet theory reactor",
    "technology": "software internet computer phone users chip web data browser network device search server video "
    "wireless security hacker laptop code download robot battery screen startup",
}
_WORDS_PER_TOPIC = 24
_COMMON_SHARE = 0.6
# Share of its topic words that class k exchanges with class k + 1, in a ring; the list repeats.
_LINKS = (0.28, 0.14, 0.08, 0.06, 0.24, 0.12)
_BACKGROUND = 0.1  # share of the topic words drawn from all classes equally
_CONSONANTS, _VOWELS = "bdfgklmnprstvzj", "aeiou"


class SyntheticNews(NamedTuple):
    """Generated corpus with its exact class relations and Bayes error.

    Attributes:
        dataset: Splits train and test, with the columns text and label.
        class_relations: Residual labels R[k, j] of the classes k, (num_labels, num_labels) float64. The diagonal is
            zero, rows sum to 1.
        bayes_error_rate: Error rate of the best possible classifier on the test texts, in [0, 1].
    """

    dataset: DatasetDict
    class_relations: npt.NDArray[np.float64]
    bayes_error_rate: float


def synthetic_news(
    *,
    num_train: int = 4000,
    num_test: int = 2000,
    num_labels: int = 6,
    words_per_text: int = 24,
    label_noise: float = 0.0,
    seed: int = 0,
) -> SyntheticNews:
    r"""Generates a corpus of balanced classes in a ring. Neighbouring classes share words, some pairs more than others.

    A text of class k has between half and one and a half times `words_per_text` words, drawn independently from

        p(w | k) = c common(w) + (1 - c) \sum_j A[k, j] topic_j(w),    common and topic_j by Zipf's law,

    so the posterior p(k | x) \propto \prod_w p(w | k) is exact. It gives the Bayes error, and the residual label of a
    class: the mean over its train texts of the posterior over the other classes,

        R[k, j] = E_{x | k}[ p(j | x) / \sum_{i != k} p(i | x) ],    R[k, k] = 0.

    Args:
        num_train: Number of train texts, at least one per class.
        num_test: Number of test texts, which do not depend on `num_train`.
        num_labels: Number of classes, 2 to 1000. From the seventh on, class names and words are random syllables.
        words_per_text: Mean number of words in a text, at least 2.
        label_noise: Share of train labels, in [0, 1), replaced by another class with `flip`. Test labels and
            `class_relations` are exact.
        seed: Seed of all random numbers.

    Raises:
        ValueError: If a number is outside its range.
    """
    if not 2 <= num_labels <= 1000:
        raise ValueError(f"num_labels must be in 2..1000, got {num_labels}")
    if num_train < num_labels:
        raise ValueError(f"num_train must be at least num_labels, {num_labels}, got {num_train}")
    require_at_least(1, num_test=num_test)
    require_at_least(2, words_per_text=words_per_text)
    if not 0 <= label_noise < 1:
        raise ValueError(f"label_noise must be in [0, 1), got {label_noise}")
    names, vocabulary = _names_and_vocabulary(num_labels)
    word_probs = _word_probs(num_labels)
    train_rng, test_rng, noise_rng = np.random.default_rng(seed).spawn(3)
    train_texts, train_labels, train_log_probs = _texts(num_train, word_probs, vocabulary, words_per_text, train_rng)
    test_texts, test_labels, test_log_probs = _texts(num_test, word_probs, vocabulary, words_per_text, test_rng)
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    noisy_labels = flip(train_labels, label_noise, num_labels, noise_rng)
    schema = features.arrow_schema
    return SyntheticNews(
        DatasetDict(
            train=Dataset(pa.table({"text": train_texts, "label": noisy_labels}, schema=schema)),
            test=Dataset(pa.table({"text": test_texts, "label": test_labels}, schema=schema)),
        ),
        _class_relations(train_log_probs, train_labels),
        float(np.mean(test_log_probs.argmax(axis=1) != test_labels)),
    )


def _names_and_vocabulary(num_labels: int) -> tuple[list[str], list[str]]:
    """Class names, and the vocabulary: common words, then the words of each class."""
    names, vocabulary = list(_TOPICS)[:num_labels], _COMMON.split()
    for name in names:
        vocabulary += _TOPICS[name].split()
    for index in range(len(names), num_labels):
        words = [_made_up_word(index * _WORDS_PER_TOPIC + place) for place in range(_WORDS_PER_TOPIC)]
        names.append(words[0])
        vocabulary += words
    return names, vocabulary


def _made_up_word(number: int) -> str:
    """Three syllables, different for each number below 75**3 because 7919 and 75 are coprime."""
    syllables = [consonant + vowel for consonant in _CONSONANTS for vowel in _VOWELS]
    number = number * 7919 % 75**3
    return syllables[number // 75**2] + syllables[number // 75 % 75] + syllables[number % 75]


def _word_probs(num_labels: int) -> npt.NDArray[np.float64]:
    """Word probabilities p(w | k), (num_labels, vocab_size)."""
    shares = np.zeros((num_labels, num_labels))  # A
    for left, link in enumerate(np.resize(_LINKS, num_labels)):
        right = (left + 1) % num_labels
        shares[left, right] = shares[right, left] = link
    shares += _BACKGROUND / num_labels
    shares += np.diag(1.0 - shares.sum(axis=1))
    topics = np.kron(shares, _zipf(_WORDS_PER_TOPIC))
    common = np.tile(_zipf(len(_COMMON.split())), (num_labels, 1))
    return np.hstack([_COMMON_SHARE * common, (1 - _COMMON_SHARE) * topics])


def _zipf(num_words: int) -> npt.NDArray[np.float64]:
    weights: npt.NDArray[np.float64] = 1.0 / np.arange(1, num_words + 1)
    weights /= weights.sum()
    return weights


def _texts(
    num_texts: int,
    word_probs: npt.NDArray[np.float64],
    vocabulary: list[str],
    words_per_text: int,
    rng: np.random.Generator,
) -> tuple[pa.Array, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Texts, labels (num_texts,) and log-likelihoods log p(x | k), (num_texts, num_labels)."""
    num_labels, vocab_size = word_probs.shape
    labels = rng.permutation(np.arange(num_texts) % num_labels)
    lengths = rng.integers(words_per_text // 2, words_per_text + words_per_text // 2, size=num_texts, endpoint=True)
    ends = np.append(0, lengths.cumsum())
    words = np.empty(ends[-1], dtype=np.int64)
    label_of_word = np.repeat(labels, lengths)
    for label, cumulative in enumerate(word_probs.cumsum(axis=1)):
        places = np.flatnonzero(label_of_word == label)
        words[places] = np.searchsorted(cumulative[:-1], rng.random(places.size), side="right")
    counts = scipy.sparse.csr_array((np.ones(words.size), words, ends), shape=(num_texts, vocab_size))
    texts = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(vocabulary).take(words)), " ")
    return texts, labels, counts @ np.log(word_probs).T


def _class_relations(log_probs: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Residual labels R[k, j]: mean of p(j | x) / sum_{i != k} p(i | x) over the texts x of class k."""
    others = log_probs.copy()
    others[np.arange(labels.size), labels] = -np.inf
    residuals = np.exp(others - logsumexp(others, axis=1, keepdims=True))
    return np.stack([residuals[labels == label].mean(axis=0) for label in range(log_probs.shape[1])])
