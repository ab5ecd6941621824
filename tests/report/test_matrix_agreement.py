import numpy as np

from kr_text.report.matrix_agreement import mean_difference, mistakes, rank_correlation, without_diagonal


def test_rank_correlation_skips_the_diagonal_and_rows_without_an_order() -> None:
    a = np.array([[9.0, 1, 2, 3], [1, 9, 2, 3], [5, 5, 9, 5], [1, 2, np.nan, 9]])
    b = np.array([[0.0, 1, 2, 3], [3, 0, 2, 1], [1, 2, 0, 3], [1, 2, 3, 0]])
    assert rank_correlation(a, b) == 0  # 1 in the first row, -1 in the second; the others are skipped
    assert np.isnan(rank_correlation(np.ones((3, 3)), b[:3, :3]))


def test_mean_difference_skips_the_diagonal() -> None:
    assert mean_difference(np.array([[9.0, 1], [2, 9]]), np.array([[0.0, 2], [4, 0]])) == 1.5


def test_mistakes_are_shares_of_the_misclassified_rows_of_a_class() -> None:
    confusion = [[7, 1, 3], [0, 9, 0], [2, 0, 5]]
    np.testing.assert_array_equal(mistakes(confusion)[[0, 2]], [[0, 0.25, 0.75], [1, 0, 0]])
    assert np.isnan(mistakes(confusion)[1]).all()


def test_missing_numbers_and_the_diagonal_are_nan() -> None:
    np.testing.assert_array_equal(without_diagonal([[0.5, None], [1.0, 0.5]]), [[np.nan, np.nan], [1, np.nan]])
