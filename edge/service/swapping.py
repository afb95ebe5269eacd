"""Model and calibration changed while a line runs, by order of a person; and another model in the shadow.

All that takes long (reading, checking, compiling) is done here, in the thread that takes the orders, beside the line.
"""

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.errors import CalibrationError, ConfigError, FoilsightError, ModelError
from edge.core.reading import one_line
from edge.defects.comparing import Comparison
from edge.pipeline.changing import FittedCalibration, FittedModel
from edge.pipeline.inspection import Inspection
from edge.pipeline.shadow import Shadow
from edge.segmentation.model import ModelFile, load_opened_model
from edge.service.backends import open_backend
from edge.service.control import Answer, Comparing, Files, Order, Standing
from edge.service.shelf import Index, Names, Shelf

TAKES_S = 5.0
"""How long an order waits for its strip; where the web stands for longer it is answered before."""
Part = Literal["model", "calibration"]


@dataclass(frozen=True)
class Change:
    """From web row `row` of the inspection on `part` is `digest`, instead of `before`."""

    part: Part
    digest: str
    before: str
    row: int


@dataclass(frozen=True, eq=False)
class _Model:
    """A file, opened and fitted."""

    file: ModelFile
    fitted: FittedModel


@dataclass(frozen=True, eq=False)
class _Setup:
    """What a line can go on with from one strip to the next."""

    model: _Model
    calibration: FittedCalibration

    @property
    def names(self) -> Names:
        return Names(model=self.model.file.digest, calibration=self.calibration.calibration.digest)


class Swapper:
    """Obeys orders to one line, one at a time.

    `model` is at work in `inspection`, executed by the backend of that name; `configured`: what the configuration
    names. `changed` is called from the last stage of the inspection, between what is told of the rows before a change
    and what is told from there on; it answers with the row of the roll. What is refused changes nothing. `notes`: what
    could not be taken up again.
    """

    def __init__(
        self,
        inspection: Inspection,
        config: Config,
        shelf: Shelf,
        model: ModelFile,
        configured: Names,
        backend_name: str,
        changed: Callable[[Change], int],
    ) -> None:
        self._inspection, self._config, self._shelf, self._changed = inspection, config, shelf, changed
        self._configured, self._backend_name = configured, backend_name
        self._target = _Setup(_Model(model, inspection.model), inspection.calibration)
        self._at_work, self._since_row = self._target.names, dict[str, int]()
        self._turning = threading.Condition()
        self._shadow: tuple[_Model, Shadow] | None = None
        self._before: _Setup | Names | None = None
        self.notes: list[str] = []
        index = shelf.index()
        if index is not None and index.used == self._at_work:
            self._before = index.before
            self._resume_shadow(index.shadow)

    def close(self) -> None:
        """End the shadow. Its model looks on again when the line starts again."""
        if self._shadow is not None:
            self._inspection.shadow = None
            self._shadow[1].close()
            self._shadow = None

    def obey(self, order: Order, files: Files) -> Answer:
        """Do what is asked for, or say why not. `files` are read here and now."""
        try:
            self._do(order, files)
        except FoilsightError as error:
            return Answer(refused=str(error), standing=self.standing())
        except Exception as error:  # the line goes on, whatever a file has made of a library
            return Answer(refused=f"a fault of Foilsight: {type(error).__name__}: {one_line(error)}")
        return Answer(standing=self.standing())

    def standing(self) -> Standing:
        """What is at work, and what is meant to be. From any thread."""
        target, before, now = self._target.names, _names(self._before), self._at_work
        return Standing(
            model=now.model,
            calibration=now.calibration,
            next_model=target.model if target.model != now.model else "",
            next_calibration=target.calibration if target.calibration != now.calibration else "",
            before_model="" if before is None else before.model,
            before_calibration="" if before is None else before.calibration,
            since_row=dict(self._since_row),
            shadow=self._comparing(),
        )

    def _do(self, order: Order, files: Files) -> None:
        match order.do:
            case "swap":
                self._swap(order, files)
            case "back":
                self._back()
            case "shadow":
                self._begin_or_end_shadow(order, files)
            case "promote":
                self._promote()
            case "show":
                pass

    def _swap(self, order: Order, files: Files) -> None:
        setup = self._target
        if not order.names:
            raise ConfigError("neither a model nor a calibration is named")
        if order.model:
            setup = replace(setup, model=self._fitted(load_opened_model(*_come(order.model, files))))
        if order.calibration:
            file, path = _come(order.calibration, files)
            setup = replace(setup, calibration=self._fitted_calibration(Calibration.load_opened(file, path), path))
        self._go_to(setup)

    def _back(self) -> None:
        before = self._before
        if before is None:
            raise ConfigError("there is nothing to go back to: nothing has been swapped")
        if isinstance(before, Names):
            before = self._from_shelf(before)
        self._go_to(before)

    def _begin_or_end_shadow(self, order: Order, files: Files) -> None:
        model = self._fitted(load_opened_model(*_come(order.model, files))) if order.model else None
        self._keep(self._target, self._before, model)
        self.close()
        if model is not None:
            self._look_on(model)

    def _promote(self) -> None:
        model = self._looking_on
        if model is None:
            raise ConfigError("no model looks on: foilsight swap --shadow MODEL lets one")
        self._go_to(replace(self._target, model=model))

    @property
    def _looking_on(self) -> _Model | None:
        return None if self._shadow is None else self._shadow[0]

    def _go_to(self, setup: _Setup) -> None:
        """Keep what is to be used, use what is another than now, and wait for it to be at work."""
        names, old, looking_on = setup.names, self._target, self._looking_on
        if names == old.names:
            raise ConfigError("that is at work already, or will be from the next strip on")
        self._keep(setup, old, None if looking_on is setup.model else looking_on)
        if looking_on is setup.model:
            self.close()
        self._target, self._before = setup, old
        if names.model != old.names.model:
            self._inspection.use_model(setup.model.fitted, lambda row: self._turn("model", names.model, row))
        if names.calibration != old.names.calibration:
            self._inspection.use_calibration(
                setup.calibration, lambda row: self._turn("calibration", names.calibration, row)
            )
        with self._turning:
            self._turning.wait_for(lambda: self._at_work == names, TAKES_S)

    def _turn(self, part: Part, digest: str, row: int) -> None:
        """From the last stage of the inspection."""
        before = getattr(self._at_work, part)
        with self._turning:
            if digest != before:
                self._since_row[part] = self._changed(Change(part, digest, before, row))
                self._at_work = msgspec.structs.replace(self._at_work, **{part: digest})
            self._turning.notify_all()

    def _fitted(self, file: ModelFile) -> _Model:
        """Compile a model beside the one at work. Raises ModelError."""
        backend, notes = open_backend(file, self._config)
        if backend.name != self._backend_name:
            why = "; ".join(notes) or f"segmentation.backend is {self._config.segmentation.backend}"
            raise ModelError(f"{file.path}: would run on {backend.name}, the line runs on {self._backend_name}: {why}")
        try:
            return _Model(file, self._inspection.fit_model(file.info, backend))
        except ModelError as error:
            raise ModelError(_with_path(file.path, error)) from error

    def _fitted_calibration(self, calibration: Calibration, path: Path) -> FittedCalibration:
        try:
            return self._inspection.fit_calibration(calibration)
        except CalibrationError as error:
            raise CalibrationError(_with_path(path, error)) from error

    def _from_shelf(self, names: Names) -> _Setup:
        """What was at work before the line was started; what still is stays as it is."""
        setup, now = self._target, self._target.names
        if names.model != now.model:
            setup = replace(setup, model=self._fitted(self._shelf.model(names.model)))
        if names.calibration != now.calibration:
            calibration, path = self._shelf.calibration(names.calibration), self._shelf.path(names.calibration)
            setup = replace(setup, calibration=self._fitted_calibration(calibration, path))
        return setup

    def _resume_shadow(self, digest: str | None) -> None:
        if digest is None:
            return
        try:
            self._look_on(self._fitted(self._shelf.model(digest)))
        except FoilsightError as error:
            self.notes.append(f"no model looks on any more: {error}")

    def _look_on(self, model: _Model) -> None:
        compare = Comparison(model.file.info.classes, self._config.defects, self._inspection.axes.pitch_mm)
        shadow = Shadow(model.fitted, compare, lambda: self._inspection.strips_under_way <= 1)
        self._shadow = model, shadow
        self._inspection.shadow = shadow

    def _keep(self, setup: _Setup, before: _Setup | Names | None, looking_on: _Model | None) -> None:
        """On the shelf, so that a line that is started again goes on with it. Raises EventsError."""
        for each in (setup, before):
            if isinstance(each, _Setup):
                self._shelf.put(each.model.file.data, each.names.model)
                self._shelf.put(each.calibration.calibration.to_bytes(), each.names.calibration)
        shadow = None if looking_on is None else looking_on.file
        if shadow is not None:
            self._shelf.put(shadow.data, shadow.digest)
        self._shelf.mean(
            Index(
                configured=self._configured,
                used=setup.names,
                before=_names(before),
                shadow=None if shadow is None else shadow.digest,
            )
        )

    def _comparing(self) -> Comparing | None:
        if self._shadow is None:
            return None
        model, shadow = self._shadow
        return Comparing(model=model.file.digest, problem=shadow.problem or "", **asdict(shadow.counts))


def _come(name: str, files: Files) -> tuple[int, Path]:
    """A file that has come with an order, and its name. Raises ConfigError where it has not."""
    if name not in files:
        raise ConfigError(f"{name}: did not come with the order: whoever gives it hands its files over, opened")
    return files[name], Path(name)


def _names(setup: _Setup | Names | None) -> Names | None:
    return setup.names if isinstance(setup, _Setup) else setup


def _with_path(path: Path, error: FoilsightError) -> str:
    text = str(error)
    return text if text.startswith(str(path)) else f"{path}: {text}"
