"""What becomes of a trained network: probabilities mended, thresholds chosen, one file that says how it was made."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from calibration.network.augmentation import are_photographs
from calibration.network.decision import DecisionCounts
from calibration.network.export import export
from calibration.network.networks.network import LineNetwork
from calibration.network.reliability import Reliability
from calibration.network.sampling import Webs
from calibration.network.temperature import calibrate
from calibration.network.thresholds import ThresholdCounts, probabilities
from edge.core.types import F32
from edge.segmentation.model import ModelInfo

EXPOSURES = (0.5, 0.7, 1.4, 2.0)
"""Times as bright: at these, too, clean photographs must raise no more alarms, for those to come are exposed otherwise.
"""


def finish(
    network: LineNetwork,
    validation: Webs,
    out: Path,
    *,
    classes: Sequence[str],
    channels: Sequence[str],
    pitch_mm: float,
    provenance: Mapping[str, str],
    false_cost: float | None = None,
    clean_alarms: float | None = None,
) -> ModelInfo:
    """Write a network, whose probabilities are calibrated and whose thresholds are chosen on webs it has not learnt.

    Changes the network. With `clean_alarms` smallest areas are chosen as well, so that at most this share of the webs
    without a defect raises an alarm, of photographs at other EXPOSURES as well. Of the calibration the provenance says
    the temperature and what error is left: of the most probable class of each pixel, and of those pixels where that is
    a defect.
    """
    mirrored = are_photographs(channels)
    temperature, _ = calibrate(network, validation, mirrored=mirrored)
    counts, of_all, of_defects = ThresholdCounts(len(classes) - 1), Reliability(), Reliability()
    decisions = None if clean_alarms is None else DecisionCounts(len(classes))
    for surface, truth in validation:
        slabs = list(probabilities(network, surface, mirrored=mirrored))
        if decisions is not None:
            decisions.add(_whole(slabs), truth)
            if mirrored and not truth.any():
                for exposure in EXPOSURES:
                    shown = np.minimum(np.float32(exposure) * surface, 1)
                    decisions.add_clean(_whole(probabilities(network, shown, mirrored=True)))
        for rows, p in slabs:
            likeliest, called = p.max(axis=0), p.argmax(axis=0)
            right = called == truth[rows]
            counts.add(p[1:], truth[rows])
            of_all.add(likeliest, right)
            of_defects.add(likeliest[called > 0], right[called > 0])
    scores = zip(classes[1:], counts.f1.max(axis=1), strict=True)
    made = {
        "network": network.architecture,
        "pixel_f1": ", ".join(f"{label} {f1:.3f}" for label, f1 in scores),
        "temperature": f"{temperature:.3f}",
        "expected_calibration_error": _text(of_all.error),
        "expected_calibration_error_of_defects": _text(of_defects.error),
    }
    thresholds, min_areas_px = counts.best_thresholds(false_cost), list[int]()
    if decisions is not None and clean_alarms is not None:
        thresholds, min_areas_px, alarms = decisions.best(clean_alarms, false_cost)
        made["clean_alarms"] = f"{alarms:.4f}"
    info = ModelInfo(
        classes=list(classes),
        channels=list(channels),
        pitch_mm=pitch_mm,
        grid=network.grid,
        halo=network.halo,
        thresholds=thresholds,
        min_areas_px=min_areas_px,
        provenance={**provenance, **made},
    )
    export(network, out, info)
    return info


def _whole(slabs: Iterable[tuple[slice, F32]]) -> F32:
    """Probabilities (classes,H,W) of all slabs."""
    return np.concatenate([p for _, p in slabs], axis=1)


def finished_text(out: Path, info: ModelInfo) -> str:
    """Size and figures of a model that `finish` wrote."""
    made = info.provenance
    alarms = f"\n{out}: alarms on clean validation images: {made['clean_alarms']}" if "clean_alarms" in made else ""
    return (
        f"{out}: {out.stat().st_size / 1e6:.1f} MB; pixel F1 on validation data: {made['pixel_f1']}\n"
        f"{out}: expected calibration error {made['expected_calibration_error']}, of pixels most likely defects "
        f"{made['expected_calibration_error_of_defects']}; temperature {made['temperature']}{alarms}"
    )


def _text(error: float | None) -> str:
    return "-" if error is None else f"{error:.4f}"
