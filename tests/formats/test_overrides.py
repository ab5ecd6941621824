import pytest

from kr_text.formats.overrides import parse_overrides, sorted_overrides


@pytest.mark.parametrize("text", [None, "", " ", ","])
def test_empty_text_has_no_settings(text: str | None) -> None:
    assert parse_overrides(text, "training") == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("2.0", 2.0),
        ("1e-3", 1e-3),
        ("-0.5", -0.5),
        ("true", True),
        ("True", True),
        ("False", False),
        ("lstm", "lstm"),
        ("no", "no"),  # a value of eval_strategy; YAML 1.1 would read False
        ("2020-01-01", "2020-01-01"),
        ("a=b", "a=b"),
    ],
)
def test_values_are_numbers_booleans_or_text(text: str, value: object) -> None:
    (parsed,) = parse_overrides(f"name={text}", "training").values()
    assert (parsed, type(parsed)) == (value, type(value))


def test_spaces_are_ignored_and_order_is_kept() -> None:
    settings = parse_overrides(" b = 1 , a=x,", "training")
    assert list(settings.items()) == [("b", 1), ("a", "x")]


@pytest.mark.parametrize("part", ["alpha", "=1", "alpha="])
def test_parts_without_name_or_value_are_refused(part: str) -> None:
    with pytest.raises(ValueError, match=f"loss_overrides must be NAME=VALUE,NAME=VALUE,..., got '{part}'"):
        parse_overrides(f"gamma=1,{part}", "loss_overrides")


@pytest.mark.parametrize("text", ["a=1,b=2.0", "b=2.0,a=1,", " a = 1 ,, b =2.0", "a=3,b=2.0,a=1"])
def test_the_same_settings_give_the_same_sorted_text(text: str) -> None:
    assert sorted_overrides(text) == "a=1,b=2.0"


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("", ""), ("a=1e-3", "a=1e-3"), ("b,a = x=y", "a=x=y,b")])
def test_sorting_keeps_the_spelling_of_values(text: str | None, expected: str | None) -> None:
    assert sorted_overrides(text) == expected
