"""A section of the report page: how far the probabilities can be trusted, before and after temperature scaling."""

from collections.abc import Callable, Sequence

import numpy as np

from kr_text.evaluation.calibration import reliability
from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.formats.markdown import Number, format_number
from kr_text.report.blocks import Block, Figure, Paragraph, Table
from kr_text.report.figures import reliability_diagrams
from kr_text.report.section_errors import Pair
from kr_text.report.study import Cell, Study, place, places
from kr_text.report.wording import PLACE_HEADINGS, loss_name, mean_text, place_names

CALIBRATION = {"nll": "NLL", "brier_score": "Brier", "ece": "ECE"}
SHOWN = ("CE", "LS", "KR", "KR-LS")  # in the diagrams, where there are the first and the last
MIN_ROWS = 20  # of a bin that is shown: of fewer, the accuracy says little


def calibration_table(cells: Sequence[Cell]) -> Table:
    """Calibration by place and loss, before and after temperature scaling, means over the seeds."""
    headings = [f"{name}{when}" for name in CALIBRATION.values() for when in ("", " scaled")]
    rows = []
    for cell in cells:
        numbers = [mean_text(cell, lambda result: result.report["temperature_scaling"]["temperature"], 2)]
        for name in CALIBRATION:
            numbers += [mean_text(cell, _metric(name, scaled=False)), mean_text(cell, _metric(name, scaled=True))]
        numbers.append(mean_text(cell, _metric("aurc", scaled=False)))
        names = place_names(place(cell.setting), cell.results)
        rows.append((*names, loss_name(cell.setting), str(len(cell.results)), *numbers))
    caption = (
        "Test rows, means over the seeds: the temperature with the least NLL on validation rows; NLL in nats, Brier "
        "score and expected calibration error (15 bins), as they are and scaled by that temperature; area under the "
        "risk-coverage curve. Lower is better, and a temperature above 1 says overconfident."
    )
    return Table(caption, (*PLACE_HEADINGS, "loss", "seeds", "temperature", *headings, "AURC"), tuple(rows))


def calibration_findings(cells: Sequence[Cell]) -> Paragraph:
    """How often KR-LS has the smaller mean, before and after scaling, and what scaling does to the ECE."""
    pairs = [
        (ours, ce)
        for those in places(cells).values()
        for ce in those
        if loss_name(ce.setting) == "CE"
        for ours in those
        if loss_name(ours.setting) == "KR-LS"
    ]
    counts = []
    for name, heading in CALIBRATION.items():
        before, after = (_num_smaller(pairs, _metric(name, scaled=scaled)) for scaled in (False, True))
        counts.append(f"{heading}: {before} before temperature scaling, {after} after")
    text = f"Of {len(pairs)} settings with both, KR-LS has the smaller mean than CE in so many. {'; '.join(counts)}."
    if pairs:
        means = [
            " to ".join(format_number(_mean_ece(those, scaled=scaled), 3) for scaled in (False, True))
            for those in zip(*pairs, strict=True)
        ]
        text += f" One temperature takes the mean ECE over these of KR-LS from {means[0]}, that of CE from {means[1]}."
    return Paragraph(text)


def _mean_ece(cells: Sequence[Cell], *, scaled: bool) -> float:
    return float(np.mean([cell.spread(_metric("ece", scaled=scaled)).mean for cell in cells]))


def _num_smaller(pairs: Sequence[Pair], number: Callable[[Result], Number]) -> int:
    return sum(ours.spread(number).mean < ce.spread(number).mean for ours, ce in pairs)


def _metric(name: str, *, scaled: bool) -> Callable[[Result], Number]:
    def number(result: Result) -> Number:
        report = result.report
        return (report["temperature_scaling"]["test_metrics"] if scaled else report["test_metrics"])[name]

    return number


def calibration_blocks(study: Study, grid: Grid) -> list[Block]:
    """Calibration by place and loss, and reliability diagrams of CE and KR-LS."""
    cells = study.cells(grid)
    if not cells:
        return []
    datasets = dict.fromkeys(cell.setting.dataset for cell in cells)
    figures = [reliability_figure([cell for cell in cells if cell.setting.dataset == name], name) for name in datasets]
    return [calibration_findings(cells), calibration_table(cells), *filter(None, figures)]


def reliability_figure(cells: Sequence[Cell], dataset: str) -> Figure | None:
    """A diagram for each place that has both CE and KR-LS, all seeds together; None where there is no such place.

    Nor where no bin has rows enough.
    """
    panels = []
    for where, those in places(cells).items():
        shown = {loss_name(cell.setting): cell for cell in those if loss_name(cell.setting) in SHOWN}
        bins = {name: of_name for name in SHOWN if name in shown and (of_name := _bins(shown[name]))}
        if {SHOWN[0], SHOWN[-1]} <= bins.keys():
            results = [result for cell in shown.values() for result in cell.results]
            title = ", ".join(place_names(where, results)[1:]) + " rows"
            panels.append((title, list(bins.items())))
    if not panels:
        return None
    name = f"reliability-{dataset}"
    caption = (
        f"{dataset}: accuracy of the test rows by confidence, all seeds together, in those of 15 bins that have "
        f"{MIN_ROWS} rows. Below the thin line the classifier is overconfident. The probabilities are those that are "
        "kept, to 1/250."
    )
    alt = f"Reliability diagrams of {', '.join(SHOWN)} on {dataset} for {'; '.join(title for title, _ in panels)}."
    return Figure(name, reliability_diagrams(panels, name), caption, alt)


def _bins(cell: Cell) -> list[tuple[float, float, int]]:
    predictions = [result.predictions() for result in cell.results]
    confidence = np.concatenate([each.probabilities.max(axis=1) for each in predictions])
    bins = reliability(confidence, np.concatenate([each.correct for each in predictions]))
    return [each for each in bins if each[2] >= MIN_ROWS]
