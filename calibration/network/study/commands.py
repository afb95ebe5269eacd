"""`foilsight study`. Imports nothing heavy until the command runs."""

from pathlib import Path

from calibration.network.commands import CHANNELS, require_torch
from edge.core.errors import ConfigError


def study(
    out: Path = Path("foilsight-study"),
    *,
    models: str = "all",
    iterations: int = 10_000,
    features: int = 32,
    webs: int = 24,
    validation_webs: int = 3,
    unseen_webs: int = 8,
    length_mm: float = 100.0,
    width_px: int = 1024,
    batch: int = 16,
    patch: int = 256,
    refresh: int = 100,
    trainings: int = 1,
    seed: int = 1,
) -> int:
    """Train and judge the thirteen models of the thesis on imbalance and ours on the same rendered webs.

    Started again with the same options, a study goes on where it was stopped. The thesis's own size takes a GPU.

    Parameters
    ----------
    out
        Folder for the networks, study.json and study.html.
    models
        `all`, or names with commas: baseline, equal_samples, oversampled_cavities, equal_pixels, binary,
        binary_balanced, binary_fl, binary_fl_iscf, wce_icf, wce_iscf, focal, fl_icf, fl_iscf, ours.
    iterations
        Steps of the optimiser, for every network.
    features
        Channels of every network's first level.
    webs
        Rendered webs to train on.
    validation_webs
        Further webs on which the thresholds of ours are chosen.
    unseen_webs
        Further webs on which all are judged.
    length_mm
        Length of each web.
    width_px
        Width of each web.
    batch
        Patches a step.
    patch
        Side of a square patch in pixels.
    refresh
        Iterations after which the thesis's models draw a new set of patches.
    trainings
        Trainings of each model, from other seeds; three for the thesis's PSoMT.
    seed
        Of weights and patches of the first training.
    """
    require_torch()
    from calibration.network.study.recipes import chosen
    from calibration.network.study.results import Settings
    from calibration.network.study.run import study as run
    from calibration.network.study.wording import table_text, verdict
    from edge.simulation.web import VERSION

    settings = Settings(
        iterations=iterations,
        features=features,
        webs=webs,
        validation_webs=validation_webs,
        unseen_webs=unseen_webs,
        length_mm=length_mm,
        width_px=width_px,
        batch=batch,
        patch=patch,
        refresh=refresh,
        trainings=trainings,
        seed=seed,
        channels=CHANNELS,
        generator=f"rendered webs of generator version {VERSION}",
    )
    for name in ("iterations", "features", "webs", "validation_webs", "unseen_webs", "batch", "refresh", "trainings"):
        if getattr(settings, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(settings, name)}: must be 1 or more")
    results = run(chosen(models), settings, out)
    print(table_text(results, settings))
    if judged := verdict(results):
        print(judged)
    print(f"{out / 'study.html'}")
    return 0
