"""`foilsight swap`: orders to a line that runs as a service on this machine."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from edge.core.config import load_config
from edge.core.errors import ConfigError, FoilsightError
from edge.service.answering import EXIT_DONE, print_json
from edge.service.control import CONTROL, Order, Standing, ask
from edge.service.folders import state_folder_of
from edge.service.options import ConfigFile, Json

Flag = Annotated[bool, Parameter(negative="")]
_SHOWN = 12


def swap(
    model: Path | None = None,
    *,
    calibration: Path | None = None,
    shadow: Path | None = None,
    no_shadow: Flag = False,
    promote: Flag = False,
    back: Flag = False,
    show: Flag = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Change model or calibration while the line runs, from the next strip on; without any, say what is at work.

    Files lie wherever you can read them: the line keeps a copy. What is damaged, or of another camera, scale or set of
    classes, is refused, and the old one goes on. What is at work outlives a restart, until the configuration names
    another. Orders are taken from the line's own user and from root.

    Parameters
    ----------
    model
        ONNX file to decide from now on.
    calibration
        Calibration to use from now on.
    shadow
        ONNX file to look on beside the model at work, when there is time, and be compared with it.
    no_shadow
        No model looks on any more.
    promote
        The model that looks on decides from now on.
    back
        Return to what was at work before the last change.
    show
        Change nothing.
    config
        Configuration (TOML) of the line: /etc/foilsight/NAME.toml of the installed service foilsight@NAME.
    json
        Print what is at work as one JSON object and nothing else.
    """
    orders = [
        Order(do="swap", model=_absolute(model), calibration=_absolute(calibration)) if model or calibration else None,
        Order(do="shadow", model=_absolute(shadow)) if shadow or no_shadow else None,
        Order(do="promote") if promote else None,
        Order(do="back") if back else None,
        Order(do="show") if show else None,
    ]
    given = [order for order in orders if order is not None] or [Order(do="show")]
    if len(given) > 1 or (shadow and no_shadow):
        raise ConfigError("swap: one change at a time: a model or calibration, --shadow, --promote or --back")
    answer = ask(state_folder_of(config, load_config(config).line) / CONTROL, given[0])
    if answer.refused:
        raise FoilsightError(answer.refused)
    if answer.standing is not None:
        if json:
            print_json(answer.standing)
        else:
            print("\n".join(_in_words(answer.standing)))
    return EXIT_DONE


def _absolute(path: Path | None) -> str:
    return "" if path is None else str(path.absolute())


def _in_words(standing: Standing) -> list[str]:
    lines = []
    for part in ("model", "calibration"):
        now, following, before = (getattr(standing, f"{when}{part}")[:_SHOWN] for when in ("", "next_", "before_"))
        since = f", since row {standing.since_row[part]}" if part in standing.since_row else ""
        waiting = f"; {following} from the next strip on: the web stands" if following else ""
        lines.append(f"{part:12}{now}{since}{waiting}" + (f"; before: {before}" if before not in ("", now) else ""))
    shadow = standing.shadow
    if shadow is not None:
        lines += [
            f"{'shadow':12}{shadow.model[:_SHOWN]}, {shadow.compared} strips compared, {shadow.left_out} left out",
            f"{'objects':12}{shadow.both} both, {shadow.only_live} at work alone, {shadow.only_shadow} shadow alone",
        ]
        lines += [f"{'problem':12}{shadow.problem}"] if shadow.problem else []
    return lines
