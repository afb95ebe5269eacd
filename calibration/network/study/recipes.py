"""The models of the study by name, and what is published of them.

G. Morgese, "Mitigating the effects of Severe Imbalance in Multi-class Semantic Segmentation", University of Bologna,
2024 (amslaurea.unibo.it/31729).
"""

from dataclasses import dataclass

from edge.core.errors import ConfigError

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-5
THESIS_ITERATIONS, THESIS_FEATURES = 10_000, 32
OURS = "ours"


@dataclass(frozen=True)
class Recipe:
    """A model of the thesis: how its patches are drawn, its loss, and whether it is one binary network a defect."""

    name: str
    scheme: str = "uniform"
    loss: str = "ce"
    one_vs_rest: bool = False


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("baseline"),
        Recipe("equal_samples", scheme="equal_samples"),
        Recipe("oversampled_cavities", scheme="oversampled_rarest"),
        Recipe("equal_pixels", scheme="equal_pixels"),
        Recipe("binary", one_vs_rest=True),
        Recipe("binary_balanced", scheme="class_in_half", one_vs_rest=True),
        Recipe("binary_fl", loss="focal", one_vs_rest=True),
        Recipe("binary_fl_iscf", loss="fl_iscf", one_vs_rest=True),
        Recipe("wce_icf", loss="wce_icf"),
        Recipe("wce_iscf", loss="wce_iscf"),
        Recipe("focal", loss="focal"),
        Recipe("fl_icf", loss="fl_icf"),
        Recipe("fl_iscf", loss="fl_iscf"),
    )
}
NAMES = (*RECIPES, OURS)

PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "baseline": {
        "agglomeration": (0.6475, 0.0072),
        "cavity": (0.3656, 0.0002),
        "crack": (0.6026, 0.0011),
        "blade_trail": (0.5208, 0.0057),
    },
}
"""TPR and FPR by defect from the thesis's Table A2, on its own foils, at 10,000 iterations and 32 features."""


def published_mean(name: str) -> tuple[float, float] | None:
    """Mean TPR and FPR over the defects as the thesis has them, None where they are not known here."""
    rates = PUBLISHED.get(name)
    if rates is None:
        return None
    tpr, fpr = zip(*rates.values(), strict=True)
    return sum(tpr) / len(tpr), sum(fpr) / len(fpr)


def chosen(models: str) -> list[str]:
    """Names out of "all" or a list with commas. Raises ConfigError for a name that is none."""
    names = list(NAMES) if models == "all" else [name.strip() for name in models.split(",") if name.strip()]
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"--models: there is no {name!r}: choose of {', '.join(NAMES)}")
    if not names:
        raise ConfigError(f"--models: names none: choose of {', '.join(NAMES)}")
    return list(dict.fromkeys(names))
