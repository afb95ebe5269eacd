"""What a study found, in words and figures of plain text."""

from collections.abc import Sequence

from calibration.network.metrics import Scores
from calibration.network.study.recipes import OURS, THESIS_FEATURES, THESIS_ITERATIONS, published_mean
from calibration.network.study.results import ModelResult, Settings
from calibration.network.tables import text_table


def table_text(results: Sequence[ModelResult], settings: Settings) -> str:
    """The means over the defects, beside what the thesis has."""
    rows = []
    for result in results:
        own = (mean_text(result.scores, figure) for figure in ("tpr", "fpr", "precision", "precision_per_image"))
        published = published_mean(result.name) or (None, None)
        stability = (result.psoi("tpr"), result.psoi("precision"), result.psomt("tpr"))
        rows.append((result.name, *own, *(percent(value) for value in (*stability, *published))))
    head = ("model", "TPR", "FPR", "precision", "per image", "PSoI TPR", "PSoI prec.", "PSoMT TPR", "thesis TPR", "FPR")
    return f"{text_table(head, rows)}\n{reservations(settings)}"


def reservations(settings: Settings) -> str:
    """What must be known to read the figures."""
    less = []
    if settings.iterations < THESIS_ITERATIONS:
        less.append(f"{settings.iterations:,} iterations instead of the thesis's {THESIS_ITERATIONS:,}")
    if settings.features < THESIS_FEATURES:
        less.append(f"{settings.features} features instead of {THESIS_FEATURES}")
    short = f" Trained with {' and '.join(less)}." if less else ""
    return (
        "Per cent, means over the four defects, pooled over the pixels of unseen rendered webs; a class that is never "
        "called has no precision, the mean is then of fewer. The thesis's figures are of its own foils (Table A2). "
        "Ours decides by thresholds chosen on validation webs, the others take the most probable class; where a model "
        f"is one network a defect, the surest of those above one half.{short}"
    )


def verdict(results: Sequence[ModelResult]) -> str | None:
    """Whether ours is above all others at the baseline's FPR or lower; None where one of them was not trained."""
    by_name = {result.name: result.scores.mean for result in results}
    if OURS not in by_name or "baseline" not in by_name:
        return None
    ours, others = by_name.pop(OURS), by_name.values()
    checks = {
        "mean FPR no higher than the baseline's": (ours.fpr or 0) <= (by_name["baseline"].fpr or 0),
        "mean TPR above all": all((ours.tpr or 0) > (other.tpr or 0) for other in others),
        "mean precision above all": all((ours.precision or 0) > (other.precision or 0) for other in others),
    }
    return "ours: " + ", ".join(f"{what}: {'yes' if holds else 'no'}" for what, holds in checks.items())


def mean_text(scores: Scores, figure: str) -> str:
    """A mean over the defects in per cent; "of 3" where it is not defined for one of four."""
    values = [getattr(one, figure) for one in list(scores.classes.values())[1:]]
    defined = sum(value is not None for value in values)
    few = f" of {defined}" if 0 < defined < len(values) else ""
    return percent(getattr(scores.mean, figure)) + few


def percent(value: float | None) -> str:
    """A share in per cent, "-" where it is not defined."""
    return "-" if value is None else f"{100 * value:.3f}"
