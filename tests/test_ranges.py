import math
import re
from typing import Any

import pytest

from kr_text.ranges import in_range, require_at_least, require_dropout, require_token_id

OPEN: dict[str, Any] = {"open_low": True, "open_high": True}


@pytest.mark.parametrize(
    ("value", "low", "high", "options"),
    [(0, 0, 1, {}), (1, 0, 1, {}), (0.5, 0, 1, OPEN), (1e9, 0, math.inf, {}), (0, 0, 1, {"open_high": True})],
)
def test_a_value_in_range_is_returned(value: float, low: float, high: float, options: dict[str, Any]) -> None:
    assert in_range("x", value, low, high, **options) == value


@pytest.mark.parametrize(
    ("value", "low", "high", "options", "rule"),
    [
        (1.1, 0, 1, {}, "in [0, 1]"),
        (-0.1, 0, 1, {}, "in [0, 1]"),
        (math.nan, 0, 1, {}, "in [0, 1]"),
        (1, 0, 1, {"open_high": True}, "in [0, 1)"),
        (0, 0, 1, OPEN, "in (0, 1)"),
        (1, 0, 1, OPEN, "in (0, 1)"),
        (-1, 0, math.inf, {}, "at least 0 and finite"),
        (math.inf, 0, math.inf, {}, "at least 0 and finite"),
        (0, 0, math.inf, {"open_low": True}, "above 0 and finite"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_rule(
    value: float, low: float, high: float, options: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'x must be {rule}, got {value}')}$"):
        in_range("x", value, low, high, **options)


def test_integers_below_the_bound_are_refused_by_name() -> None:
    require_at_least(2, first=2, second=3)
    with pytest.raises(ValueError, match=r"^second must be at least 2, got 1$"):
        require_at_least(2, first=2, second=1)


def test_dropout_is_in_0_to_1_without_1() -> None:
    require_dropout(dropout=0.0)
    with pytest.raises(ValueError, match=r"^dropout must be in \[0, 1\), got 1\.0$"):
        require_dropout(dropout=1.0)


def test_a_token_id_is_in_the_vocabulary() -> None:
    require_token_id(5, pad_token_id=4)
    with pytest.raises(ValueError, match=r"^pad_token_id must be in 0\.\.4, got 5$"):
        require_token_id(5, pad_token_id=5)
