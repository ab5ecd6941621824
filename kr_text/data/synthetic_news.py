"""A news corpus generated from a seed: the similarity of its classes and the error of the best classifier are known."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from scipy.special import logsumexp

# The commonest words, the same in every class, then each class's own, commonest first.
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
# Class k takes such a share of its topic words from class k + 1 and gives it as many, in a ring; the list repeats.
_LINKS = (0.28, 0.14, 0.08, 0.06, 0.24, 0.12)
_BACKGROUND = 0.1  # the share that all classes, near or far, take together besides
_CONSONANTS, _VOWELS = "bdfgklmnprstvzj", "aeiou"


class SyntheticNews(NamedTuple):
    """The corpus and what is known about it.

    Attributes:
        dataset: train and test, with the columns text and label.
        class_relations: (num_labels, num_labels) float64, R[k, j], the residual label of class k: zero on the diagonal,
            rows sum to 1.
        bayes_error_rate: in [0, 1], of the best possible classifier on the test texts.
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
    r"""Generates balanced classes in a ring: neighbours share words, some pairs many, some few.

    A text of class k has between half and one and a half times `words_per_text` words, each drawn on its own from

        p(w | k) = c common(w) + (1 - c) \sum_j A[k, j] topic_j(w),    common and topic_j by Zipf's law,

    so the posterior p(k | x) \propto \prod_w p(w | k) is exact, and so are the error of the classifier that follows it
    and the residual label of a class, the mean over its train texts of the posterior over the other classes:

        R[k, j] = E_{x | k}[ p(j | x) / \sum_{i != k} p(i | x) ],    R[k, k] = 0.

    Args:
        num_train: train texts, at least one for each class.
        num_test: test texts; they do not depend on `num_train`.
        num_labels: classes, 2 to 1000. From the seventh, classes and their words are made of syllables.
        words_per_text: mean length of a text, at least 2.
        label_noise: the share of train labels, in [0, 1), replaced by one of the other classes, uniformly. The test
            labels stay right, and `class_relations` is that of the right labels.
        seed: of all random numbers.
    """
    if not 2 <= num_labels <= 1000:
        raise ValueError(f"num_labels must be in 2..1000, got {num_labels}")
    if num_train < num_labels:
        raise ValueError(f"num_train must be at least num_labels, {num_labels}, got {num_train}")
    if num_test < 1:
        raise ValueError(f"num_test must be at least 1, got {num_test}")
    if words_per_text < 2:
        raise ValueError(f"words_per_text must be at least 2, got {words_per_text}")
    if not 0 <= label_noise < 1:
        raise ValueError(f"label_noise must be in [0, 1), got {label_noise}")
    names, vocabulary = _names_and_vocabulary(num_labels)
    word_probs = _word_probs(num_labels)
    train_rng, test_rng, noise_rng = np.random.default_rng(seed).spawn(3)
    train_texts, train_labels, train_log_probs = _texts(num_train, word_probs, vocabulary, words_per_text, train_rng)
    test_texts, test_labels, test_log_probs = _texts(num_test, word_probs, vocabulary, words_per_text, test_rng)
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    noisy_labels = _replace(train_labels, label_noise, num_labels, noise_rng)
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
    """The class names, and the common words followed by those of each class."""
    names, vocabulary = list(_TOPICS)[:num_labels], _COMMON.split()
    for name in names:
        vocabulary += _TOPICS[name].split()
    for index in range(len(names), num_labels):
        words = [_made_up_word(index * _WORDS_PER_TOPIC + place) for place in range(_WORDS_PER_TOPIC)]
        names.append(words[0])
        vocabulary += words
    return names, vocabulary


def _made_up_word(number: int) -> str:
    """Three syllables; every number below 75**3 has its own, as 7919 and 75 have no common factor."""
    syllables = [consonant + vowel for consonant in _CONSONANTS for vowel in _VOWELS]
    number = number * 7919 % 75**3
    return syllables[number // 75**2] + syllables[number // 75 % 75] + syllables[number % 75]


def _word_probs(num_labels: int) -> npt.NDArray[np.float64]:
    """p(w | k) as (num_labels, vocab_size)."""
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
    """Texts, labels (num_texts,) and log p(x | k) (num_texts, num_labels), which the posterior is proportional to."""
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
    """R[k, j] = mean over the texts x of class k of p(j | x) / sum_{i != k} p(i | x)."""
    others = log_probs.copy()
    others[np.arange(labels.size), labels] = -np.inf
    residuals = np.exp(others - logsumexp(others, axis=1, keepdims=True))
    return np.stack([residuals[labels == label].mean(axis=0) for label in range(log_probs.shape[1])])


def _replace(
    labels: npt.NDArray[np.int64], label_noise: float, num_labels: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Moves round(label_noise * len(labels)) labels to another class, each other class as likely."""
    noisy = labels.copy()
    rows = rng.permutation(labels.size)[: round(label_noise * labels.size)]
    noisy[rows] = (noisy[rows] + rng.integers(1, num_labels, size=rows.size)) % num_labels
    return noisy
