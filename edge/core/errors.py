"""Everything that can be wrong with what a person gave us, as one tree::

    FoilsightError              exit code 2, one line: what, where, what to do
    ├── ConfigError             a configuration key or value that cannot be used
    ├── RecordingError          not a recording, torn, or of a version this program does not know
    ├── ImportFolderError       image folder or lights file that cannot become a recording
    ├── CalibrationError        a calibration that is damaged, of another size, or cannot be solved
    ├── ModelError              a model file that is damaged, does not describe itself, or does not fit
    ├── CameraError             no such camera or producer, or one that cannot do what is asked of it
    ├── EventsError             an address in use, an outbox that cannot be written
    └── MissingExtra            a part of Foilsight that is not installed

Anything else that escapes is a fault of Foilsight itself: exit code 3.
"""


class FoilsightError(Exception):
    """Base of all errors a person can mend. The message is one line that says what to do."""


class ConfigError(FoilsightError):
    """A configuration key or value that cannot be used; the message names its path."""


class RecordingError(FoilsightError):
    """Not a recording, torn, or of a version this program does not know."""


class ImportFolderError(FoilsightError):
    """An image folder or lights file that cannot become a recording."""


class CalibrationError(FoilsightError):
    """A calibration that is damaged, of another size than the frames, or cannot be solved."""


class ModelError(FoilsightError):
    """A model file that is damaged, does not describe itself, or does not fit the surface."""


class CameraError(FoilsightError):
    """No such producer or camera, or one that cannot do what the configuration asks of it."""


class EventsError(FoilsightError):
    """An address that is in use, or an outbox that cannot be written."""


class MissingExtra(FoilsightError):
    """A part of Foilsight that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: run  pip install 'foilsight[{extra}]'")
