"""The paper's published test errors (Table 3)."""

from kr_text.experiments.run import Run

PAPER_LOSSES = ("CE", "KR-LS")
PAPER = {  # test error in %: CE, KR-LS
    ("ag_news", "fasttext"): (11.03, 10.87),
    ("ag_news", "textrnn"): (11.15, 10.43),
    ("ag_news", "charcnn"): (14.22, 12.09),
    ("ag_news", "transformer"): (10.49, 9.71),
    ("yahoo_answers", "fasttext"): (29.42, 28.75),
    ("yahoo_answers", "textrnn"): (31.13, 29.67),
    ("yahoo_answers", "charcnn"): (29.76, 28.50),
    ("yahoo_answers", "transformer"): (29.03, 28.76),
    ("yelp_review_full", "fasttext"): (40.66, 40.02),
    ("yelp_review_full", "textrnn"): (42.81, 41.99),
    ("yelp_review_full", "charcnn"): (39.28, 39.02),
    ("yelp_review_full", "transformer"): (38.50, 37.68),
}


def published_error(place: Run, loss: str) -> float | None:
    """The paper's test error in % for a data set, a model and a loss, or None."""
    errors = PAPER.get((place.dataset, place.model))
    return errors[PAPER_LOSSES.index(loss)] if errors and loss in PAPER_LOSSES else None
