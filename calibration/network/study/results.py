"""What a study found, as it lies in its folder."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from calibration.network.metrics import ClassScore, Scores, variation
from edge.core.errors import ConfigError, ModelError

SETTINGS = "settings.json"


class Settings(msgspec.Struct, frozen=True):
    """What all models of a study have in common."""

    iterations: int
    features: int
    webs: int
    validation_webs: int
    unseen_webs: int
    length_mm: float
    width_px: int
    batch: int
    patch: int
    refresh: int
    trainings: int
    seed: int
    channels: tuple[str, ...]
    generator: str


class TrainingResult(msgspec.Struct, frozen=True):
    """One training of a model: scores on unseen webs by iteration (as text), the last being the model itself.

    `composition` says what its first set of patches held, one text a network.
    """

    snapshots: dict[str, Scores]
    composition: list[str]

    @property
    def scores(self) -> Scores:
        """Scores of the trained model."""
        return list(self.snapshots.values())[-1]


class ModelResult(msgspec.Struct, frozen=True):
    """All trainings of a model. The first one's scores are shown."""

    name: str
    trainings: list[TrainingResult]

    @property
    def scores(self) -> Scores:
        """Scores of the first training."""
        return self.trainings[0].scores

    def psoi(self, figure: str, label: str | None = None) -> float | None:
        """Standard deviation of a figure over the checkpoints of the first training; of one class or of the mean."""
        return _variation(list(self.trainings[0].snapshots.values()), figure, label)

    def psomt(self, figure: str, label: str | None = None) -> float | None:
        """Standard deviation of a figure over trainings, None of a single one."""
        return _variation([training.scores for training in self.trainings], figure, label)


def figure_of(scores: Scores, figure: str, label: str | None = None) -> float | None:
    """A figure of one class, or of the mean over defects."""
    one: ClassScore = scores.mean if label is None else scores.classes[label]
    value: float | None = getattr(one, figure)
    return value


def claim_folder(folder: Path, settings: Settings) -> None:
    """Make a folder the home of a study. Raises ConfigError where it holds a study of other settings."""
    path = folder / SETTINGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and msgspec.json.decode(path.read_bytes(), type=Settings) != settings:
            raise ConfigError(f"{folder}: holds a study with other settings: choose another folder")
        write_json(path, settings)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: is damaged: choose another folder") from error


def write_json(path: Path, value: object) -> None:
    """Write a value; an older file stays until the new one is whole."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
    new.replace(path)


def read_result(path: Path) -> TrainingResult:
    """Read what a finished training found. Raises ModelError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainingResult)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{path}: not a result of this study: delete it to train again") from error


def _variation(scores: Sequence[Scores], figure: str, label: str | None) -> float | None:
    values = [figure_of(each, figure, label) for each in scores]
    defined = [value for value in values if value is not None]
    return variation(defined) if len(values) == len(defined) > 1 else None
