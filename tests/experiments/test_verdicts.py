import math
from pathlib import Path

import numpy as np
import pytest

from kr_text.experiments.predictions import compact
from kr_text.experiments.results import Result, add_result, read_results
from kr_text.experiments.run import Run
from kr_text.experiments.significance import corrected_t_test, holm, mcnemar, paired_bootstrap
from kr_text.experiments.verdicts import Verdict, against, average, corrected, over_folds, spread
from result_cases import line_of, result

RIGHT, WRONG = True, False


def results(folder: Path, loss: str, correct: dict[int, list[bool]]) -> list[Result]:
    """One result per seed."""
    return [result(folder, Run("a", "fasttext", loss, seed), correct=rows) for seed, rows in correct.items()]


def verdict(p_value: float, difference: float = -1.0) -> Verdict:
    return Verdict(3, difference, -2.0, 0.5, p_value, p_value, p_value)


def test_spread_by_hand() -> None:
    """Mean 2, squared deviations 1 + 0 + 1 over 2; t of 2 degrees of freedom at 97.5% is 4.302653."""
    of_three = spread([1.0, 2.0, 3.0])
    assert (of_three.num_seeds, of_three.mean, of_three.deviation) == (3, 2.0, 1.0)
    half = 4.302653 / math.sqrt(3)
    assert [of_three.low, of_three.high] == pytest.approx([2 - half, 2 + half])


def test_one_seed_has_a_mean_but_no_deviation() -> None:
    of_one = spread([7.0])
    assert (of_one.num_seeds, of_one.mean) == (1, 7.0)
    assert all(math.isnan(value) for value in (of_one.deviation, of_one.low, of_one.high))


def test_a_verdict_by_hand(tmp_path: Path) -> None:
    """Ten rows, one seed: five rows are correct for the method alone, one row for the baseline alone.

    McNemar: 5 of 6 discordant rows, p = 2 (6 + 1) / 64.
    """
    method = results(tmp_path, "kr", {1: [RIGHT] * 5 + [WRONG] + [RIGHT] * 4})
    baseline = results(tmp_path, "ce", {1: [WRONG] * 5 + [RIGHT] + [RIGHT] * 4})
    found = against(method, baseline)
    assert (found.num_seeds, found.difference) == (1, -40.0)
    assert found.p_mcnemar == pytest.approx(14 / 64)
    assert -100 < found.low < -40 < found.high < 20
    assert found.word == "no difference shown"


def test_both_tests_use_all_seeds_and_the_larger_p_value_counts(tmp_path: Path) -> None:
    rows = {
        "kr": {1: [RIGHT] * 38 + [WRONG] * 2, 2: [RIGHT] * 30 + [WRONG] * 10},
        "ce": {1: [RIGHT] * 28 + [WRONG] * 12, 2: [WRONG] * 8 + [RIGHT] * 30 + [WRONG] * 2},
    }
    method, baseline = (results(tmp_path, loss, of_loss) for loss, of_loss in rows.items())
    found = against(method, baseline)
    pooled = [[*rows[loss][1], *rows[loss][2]] for loss in ("kr", "ce")]
    errors = [[[not right for right in of_seed] for of_seed in rows[loss].values()] for loss in ("kr", "ce")]
    bootstrap = paired_bootstrap(*errors)
    assert found.num_seeds == 2
    assert found.difference == pytest.approx(100 * (12 - 22) / 80)
    assert (found.low, found.high) == (100 * bootstrap.low, 100 * bootstrap.high)
    assert found.p_bootstrap == bootstrap.p_value
    assert found.p_mcnemar == mcnemar(*pooled).p_value
    assert found.p_value == max(found.p_bootstrap, found.p_mcnemar) > min(found.p_bootstrap, found.p_mcnemar)


def test_the_larger_p_value_can_be_that_of_mcnemars_test(tmp_path: Path) -> None:
    """Five rows are better and none is worse: hardly any resample of a single seed has a difference of 0."""
    method = results(tmp_path, "kr", {1: [RIGHT] * 10})
    baseline = results(tmp_path, "ce", {1: [RIGHT] * 5 + [WRONG] * 5})
    found = against(method, baseline)
    assert found.p_bootstrap < 0.05 < found.p_mcnemar == found.p_value == pytest.approx(2 / 32)
    assert found.word == "no difference shown"


def test_only_common_seeds_count_in_any_order(tmp_path: Path) -> None:
    better, same = [RIGHT] * 12, [WRONG] * 12
    method = results(tmp_path, "kr", {3: better, 2: same, 1: same})
    baseline = results(tmp_path, "ce", {4: better, 2: same, 3: same})
    found = against(method, baseline)
    assert (found.num_seeds, found.difference) == (2, -50.0)
    assert against(method[:1], baseline[2:]).difference == -100.0


def test_without_a_common_seed_there_is_no_verdict(tmp_path: Path) -> None:
    method, baseline = results(tmp_path, "kr", {1: [RIGHT]}), results(tmp_path, "ce", {2: [RIGHT]})
    with pytest.raises(ValueError, match=r"must have a seed in common, got \[1\] and \[2\]"):
        against(method, baseline)


def test_different_numbers_of_test_rows_are_refused(tmp_path: Path) -> None:
    method, baseline = results(tmp_path, "kr", {1: [RIGHT] * 3}), results(tmp_path, "ce", {1: [RIGHT] * 4})
    with pytest.raises(
        ValueError, match="must have the same test rows, got different rows for a fasttext kr seed 1 and a fast"
    ):
        against(method, baseline)


def test_test_rows_in_a_different_order_are_refused(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    probabilities = np.eye(2)[[0, 1, 1]]
    for folder, loss, labels in zip(folders, ("kr", "ce"), ([0, 1, 1], [1, 0, 1]), strict=True):
        line = line_of(Run("a", "fasttext", loss))
        line["predictions"] = compact(probabilities, labels)
        add_result(folder, line)
    method, baseline = (list(read_results(folder).values()) for folder in folders)
    with pytest.raises(ValueError, match="must have the same test rows"):
        against(method, baseline)


def test_an_average_weights_comparisons_equally_whatever_their_rows_and_seeds(tmp_path: Path) -> None:
    """On one data set, with two seeds, half of the rows are better; on the other none is: 25 points on average."""
    pairs = []
    for dataset, seeds, num_rows, num_wrong in (("a", [1, 2], 40, 20), ("b", [3], 10, 0)):
        errors = {"kr": 0, "ce": num_wrong}
        pair = [
            [
                result(
                    tmp_path,
                    Run(dataset, "fasttext", loss, seed),
                    correct=[WRONG] * wrong + [RIGHT] * (num_rows - wrong),
                )
                for seed in seeds
            ]
            for loss, wrong in errors.items()
        ]
        pairs.append((pair[0], pair[1]))
    found = average(pairs)
    assert (found.num_comparisons, found.difference) == (2, -25.0)
    # Binomial, 40 rows of which half differ: 100 * 1.96 * sqrt(1 / 4 / 40) / 2 = 7.7 points to each side.
    assert (found.low, found.high) == pytest.approx((-32.7, -17.3), abs=0.8)


@pytest.mark.parametrize(
    ("p_value", "difference", "word"),
    [
        (0.049, -1.0, "better"),
        (0.049, 1.0, "worse"),
        (0.05, -1.0, "no difference shown"),
        (1.0, 0.0, "no difference shown"),
        (float("nan"), -1.0, "no difference shown"),
    ],
)
def test_the_word_is_the_conclusion_at_the_5_percent_level(p_value: float, difference: float, word: str) -> None:
    assert verdict(p_value, difference).word == word


def test_the_correction_changes_only_the_p_values() -> None:
    """0.01 * 3, 0.03 * 2 and max(0.06, 0.04 * 1), in the given order."""
    table = [verdict(0.04), verdict(0.01), verdict(0.03)]
    adjusted = corrected(table)
    assert [each.p_value for each in adjusted] == pytest.approx([0.06, 0.03, 0.06])
    assert [each.p_value for each in adjusted] == holm([0.04, 0.01, 0.03])
    assert [each.word for each in adjusted] == ["no difference shown", "better", "no difference shown"]
    assert [(each.p_bootstrap, each.p_mcnemar, each.difference) for each in adjusted] == [
        (each.p_bootstrap, each.p_mcnemar, each.difference) for each in table
    ]
    assert corrected([]) == []


def test_a_single_verdict_is_not_changed_by_the_correction() -> None:
    assert corrected([verdict(0.02)]) == [verdict(0.02)]


# Folds


def in_folds(folder: Path, loss: str, correct: dict[tuple[str, int], list[bool]]) -> list[Result]:
    """One result per fold and seed."""
    return [
        result(folder, Run("a", "fasttext", loss, seed, fold=fold), correct=rows)
        for (fold, seed), rows in correct.items()
    ]


def test_a_difference_over_folds_is_paired_by_fold_and_seed(tmp_path: Path) -> None:
    kr = {("1/2", 1): [RIGHT, RIGHT, WRONG], ("1/2", 2): [RIGHT, WRONG, WRONG], ("2/2", 1): [RIGHT, RIGHT]}
    ce = {("2/2", 1): [WRONG, RIGHT], ("1/2", 2): [RIGHT, WRONG, RIGHT], ("1/2", 1): [WRONG, WRONG, WRONG]}
    found = over_folds(in_folds(tmp_path, "kr", kr), in_folds(tmp_path, "ce", ce))
    first, second = np.array([[-1.0, -1, 0], [0, 0, 1]]), np.array([[-1.0, 0]])
    assert found == corrected_t_test([first, second])
    assert found.difference == pytest.approx((-1 / 6 - 1 / 2) / 2)


def test_other_test_rows_in_a_fold_are_refused(tmp_path: Path) -> None:
    kr = in_folds(tmp_path, "kr", {("1/2", 1): [RIGHT], ("2/2", 1): [RIGHT, RIGHT]})
    ce = in_folds(tmp_path, "ce", {("1/2", 1): [RIGHT], ("2/2", 1): [RIGHT]})
    with pytest.raises(ValueError, match="must have the same test rows"):
        over_folds(kr, ce)
