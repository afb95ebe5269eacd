"""`foilsight run | record | cameras`. Nothing heavy is imported until one runs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from edge.core.config import load_config
from edge.service.answering import EXIT_DONE, print_json
from edge.service.options import ConfigFile, Json, RequireGpu, settings_of


def run(
    *,
    config: Path,
    report: Path = Path("foilsight-run"),
    length_mm: float | None = None,
    require_gpu: RequireGpu = False,
    json: Json = False,
    service: Annotated[bool, Parameter(negative="")] = False,
    record: Path | None = None,
) -> int:
    """Inspect what the camera sees, until ctrl-C or SIGTERM, and leave a report.

    Parameters
    ----------
    config
        Configuration (TOML): its [camera] says which camera and lights, `calibration` names their calibration; with
        `device = "simulated"` neither is needed.
    report
        Folder for the report: open its report.html.
    length_mm
        End after so much web.
    require_gpu
        End with an error rather than run on the processor.
    json
        Print the report as one JSON object and nothing else.
    service
        Run for months, as a service: no report, but health, metrics and a log; started again, it goes on where it was
        on the web. Events are kept in STATE_DIRECTORY.
    record
        Recording to write besides (MCAP). Where it cannot go on, or less than 1 GB is free, inspection does, and it is
        tried again in NAME-2.mcap, NAME-3.mcap and so on, which a service also writes when it is started again.
    """
    from edge.service.line import configured_line

    settings = settings_of(config, require_gpu)
    if service:
        from edge.service.serving import serve

        with configured_line(settings, quiet=True) as line:
            serve(line, settings, length_mm, record)
        return EXIT_DONE

    from edge.service.report import print_report
    from edge.service.run import run as run_line

    with configured_line(settings, quiet=json) as line:
        result = run_line(line, settings, report, length_mm, quiet=json, out=record)
    if json:
        print_json(result)
    else:
        print_report(result, report)
    return EXIT_DONE


def record(out: Path, *, config: Path, length_mm: float | None = None) -> int:
    """Record what the camera sees, until ctrl-C or SIGTERM.

    Parameters
    ----------
    out
        Recording to write (MCAP).
    config
        Configuration (TOML): its [camera] says which camera and lights, `calibration` names their calibration; with
        `device = "simulated"` neither is needed.
    length_mm
        End after so much web.
    """
    from edge.core.errors import RecordingError
    from edge.service.line import configured_line
    from edge.service.run import record as record_line

    settings = load_config(config)
    with configured_line(settings) as line:
        recorded = record_line(line, settings, out, length_mm)
    if recorded.problem is not None:
        raise RecordingError(recorded.problem)
    print(f"{out}: {recorded.frames} frames, {recorded.dropped} dropped")
    return EXIT_DONE


def cameras(*, config: ConfigFile = None) -> int:
    """List the cameras there are, and how each would be set up for the lights.

    Each camera is set up as the configuration says, to see whether it can.

    Parameters
    ----------
    config
        Configuration (TOML) with producers and lights under [camera].
    """
    from edge.service.cameras import print_cameras

    print_cameras(load_config(config))
    return EXIT_DONE
