"""Section of the report page on the calibration of the probabilities, before and after temperature scaling."""

from collections.abc import Callable, Sequence

import numpy as np

from kr_text.experiments.grids import Grid
from kr_text.experiments.results import Result
from kr_text.formats.markdown import Number, format_number
from kr_text.report.blocks import Block, Figure, Paragraph, Table, slug
from kr_text.report.comparisons import Pair
from kr_text.report.figures import Bin, reliability_diagrams
from kr_text.report.study import Cell, Study, places
from kr_text.report.wording import PLACE_HEADINGS, loss_name, mean_text, place_names

METRICS = {"nll": "NLL", "brier_score": "Brier", "ece": "ECE"}
SHOWN = ("CE", "LS", "KR", "KR-LS")  # in the diagrams; a place needs the first and the last
MIN_ROWS = 20  # in a bin that is drawn: the accuracy of fewer rows says little


def calibration_blocks(study: Study, grid: Grid) -> list[Block]:
    """Calibration by place and loss, and reliability diagrams of `SHOWN`."""
    cells = study.cells(grid)
    if not cells:
        return []
    by_dataset: dict[str, list[Cell]] = {}
    for cell in cells:
        by_dataset.setdefault(cell.setting.dataset, []).append(cell)
    figures = [
        reliability_figure(of_dataset, slug(grid.name, "reliability", dataset))
        for dataset, of_dataset in by_dataset.items()
    ]
    return [calibration_findings(cells), calibration_table(cells), *filter(None, figures)]


def calibration_table(cells: Sequence[Cell]) -> Table:
    """Calibration metrics by place and loss, before and after temperature scaling, as means over the seeds."""
    headings = [f"{name}{when}" for name in METRICS.values() for when in ("", " scaled")]
    rows = []
    for cell in cells:
        numbers = [mean_text(cell, lambda result: result.report["temperature_scaling"]["temperature"], 2)]
        for name in METRICS:
            numbers += [mean_text(cell, _metric(name, scaled=False)), mean_text(cell, _metric(name, scaled=True))]
        numbers.append(mean_text(cell, _metric("aurc", scaled=False)))
        names = place_names(cell)
        rows.append((*names, loss_name(cell.setting), str(len(cell.results)), *numbers))
    caption = (
        "Test rows, means over the seeds. The temperature minimizes the NLL of the validation rows; above 1 the "
        "classifier is overconfident. NLL in nats, Brier score and expected calibration error (ECE, 15 bins) before "
        "and after scaling by that temperature; area under the risk-coverage curve (AURC). Lower metrics are better."
    )
    return Table(caption, (*PLACE_HEADINGS, "loss", "seeds", "temperature", *headings, "AURC"), tuple(rows))


def calibration_findings(cells: Sequence[Cell]) -> Paragraph:
    """Number of settings where KR-LS beats CE in each metric, and the mean ECE, before and after scaling."""
    pairs = [
        (ours, ce)
        for at_place in places(cells).values()
        for ce in at_place
        if loss_name(ce.setting) == "CE"
        for ours in at_place
        if loss_name(ours.setting) == "KR-LS"
    ]
    counts = []
    for name, heading in METRICS.items():
        before, after = (_num_smaller(pairs, _metric(name, scaled=scaled)) for scaled in (False, True))
        counts.append(f"{heading}: {before} before temperature scaling, {after} after")
    text = f"Number of settings, of {len(pairs)}, where KR-LS has a lower mean than CE. {'; '.join(counts)}."
    if pairs:
        ours, ce = (
            " to ".join(format_number(_mean_ece(method, scaled=scaled), 3) for scaled in (False, True))
            for method in zip(*pairs, strict=True)
        )
        text += (
            f" Temperature scaling changes the mean ECE over these settings from {ours} with KR-LS, from {ce} with CE."
        )
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


def reliability_figure(cells: Sequence[Cell], name: str) -> Figure | None:
    """Reliability diagrams of one data set, one for each place with CE and KR-LS; None without any.

    A loss is drawn if at least one of its bins has `MIN_ROWS` rows.
    """
    panels = []
    for at_place in places(cells).values():
        shown = {loss_name(cell.setting): cell for cell in at_place if loss_name(cell.setting) in SHOWN}
        bins = {loss: found for loss in SHOWN if loss in shown and (found := reliability_bins(shown[loss]))}
        if {SHOWN[0], SHOWN[-1]} <= bins.keys():
            title = ", ".join(place_names(*shown.values())[1:]) + " rows"
            panels.append((title, list(bins.items())))
    if not panels:
        return None
    dataset = cells[0].setting.dataset
    caption = (
        f"{dataset}: accuracy on the test rows by confidence, all seeds together, for those of 15 bins with at least "
        f"{MIN_ROWS} rows. Below the thin line the classifier is overconfident."
    )
    alt = f"Reliability diagrams of {', '.join(SHOWN)} on {dataset} for {'; '.join(title for title, _ in panels)}."
    return Figure(name, reliability_diagrams(panels, name), caption, alt)


def reliability_bins(cell: Cell) -> list[Bin]:
    """Mean confidence and accuracy of each bin with `MIN_ROWS` rows, over all seeds."""
    totals = np.sum([result.predictions().bins for result in cell.results], axis=0)  # (15, 3)
    return [
        (float(confidence / num_rows), float(num_correct / num_rows))
        for num_rows, confidence, num_correct in totals
        if num_rows >= MIN_ROWS
    ]
