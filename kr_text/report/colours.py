"""Colours of the report page and of its figures."""

PAGE = {  # CSS variables of style.css, as in var(--ink)
    "paper": "#ffffff",
    "ink": "#1b1b1b",
    "soft": "#5b5b5b",
    "line": "#d4d4d4",
    "code": "#f4f4f4",
    "link": "#0b4f8a",
    "better": "#e3f1e3",
    "worse": "#f8e2dd",
}
CURVES = ("#000000", "#0072b2", "#d55e00", "#009e73", "#7a4fa3", "#8c6d00", "#c2478f", "#5a5a5a")  # one per method
GRID = "#e6e6e6"
DIAGONAL = "#999999"  # accuracy = confidence in a reliability diagram
HEAT_MAP = "Greys"  # Matplotlib colour map
CELL_EDGE = "#d9d9d9"
DARK_TEXT, LIGHT_TEXT = "#000000", "#ffffff"  # in light and in dark cells of a heat map


def css_variables() -> str:
    """The CSS rule that defines the variables of `PAGE`."""
    return f":root {{ color-scheme: light; {' '.join(f'--{name}: {colour};' for name, colour in PAGE.items())} }}"
