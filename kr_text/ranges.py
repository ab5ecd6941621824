"""The ranges of config values; a value outside raises ValueError with the rule and the value."""

import math


def require_at_least(low: int, **values: int) -> None:
    """Each of `values` is `low` or more."""
    for name, value in values.items():
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")


def require_dropout(dropout: float) -> None:
    """`dropout` is in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def require_token_id(vocab_size: int, **token_ids: int) -> None:
    """Each of `token_ids` is in 0..vocab_size - 1."""
    for name, token_id in token_ids.items():
        if not 0 <= token_id < vocab_size:
            raise ValueError(f"{name} must be in 0..{vocab_size - 1}, got {token_id}")


def in_range(name: str, value: float, low: float, high: float = math.inf) -> float:
    """The value of a setting, if it is finite and in [low, high]; else a ValueError."""
    if low <= value <= high and math.isfinite(value):
        return value
    rule = f"at least {low} and finite" if high == math.inf else f"in [{low}, {high}]"
    raise ValueError(f"{name} must be {rule}, got {value}")
