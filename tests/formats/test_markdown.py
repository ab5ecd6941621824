import math

import pytest

from kr_text.formats.markdown import escaped, format_number, format_p_value, markdown_table


def test_a_table_has_columns_of_equal_width() -> None:
    assert markdown_table(["loss", "%"], [["kr-ls", "7.5"]]) == "| loss  | %   |\n| ----- | --- |\n| kr-ls | 7.5 |"


def test_pipes_are_escaped_and_line_breaks_become_spaces() -> None:
    assert markdown_table(["name"], [["a|b\nc"]]).splitlines()[-1] == "| a\\|b c |"


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("AT&T, 5 > 3, a_b [1] (2)", "AT&T, 5 > 3, a_b [1] (2)"),  # plain as it is
        ("<script>alert(1)</script>", r"\<script>alert(1)\</script>"),
        ("*x* `y` #1 \\n", r"\*x\* \`y\` \#1 \\n"),
        ("![i](http://x) [l](y)", r"![i\](http://x) [l\](y)"),
        ("&lt;b&gt; &#60; & b", r"\&lt;b\&gt; \&\#60; & b"),
        ("one\ntwo\t\x1b[31m\u2028three\x85", "one two [31m three"),
    ],
)
def test_plain_text_is_escaped(text: str, markdown: str) -> None:
    assert escaped(text) == markdown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1e-9, "0.00"),
        (-0.0, "0.00"),
        (-0.006, "-0.01"),
        (1234.5, "1,234.50"),
        (2, "2.00"),
        (None, "n/a"),
        (-math.inf, "n/a"),
    ],
)
def test_numbers_have_separators_and_a_rounded_zero_has_no_sign(value: float | None, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.00099, 3, "<0.001"), (0.001, 3, "0.001"), (0.00009, 4, "<0.0001"), (0.0001, 4, "0.0001"), (1.0, 4, "1.0000")],
)
def test_a_p_value_is_never_rounded_to_zero(value: float, digits: int, text: str) -> None:
    assert format_p_value(value, digits) == text
