"""`foilsight listen`: events on the terminal as they are published."""

import sys
from collections.abc import Collection

from edge.core.types import Alarm, Coverage, Defect, Status
from edge.events.envelope import encode
from edge.events.subscriber import Gap, listen
from edge.service.stopping import stop_on_ctrl_c


def print_events(endpoint: str, topics: Collection[str], as_json: bool) -> None:
    """Print events until ctrl-C; what was missed is said on the error stream. Raises EventsError."""
    print(f"listening at {endpoint}, ctrl-C ends", file=sys.stderr)
    with stop_on_ctrl_c() as stop:
        for message in listen(endpoint, topics, stop):
            if isinstance(message, Gap):
                print(f"missed events {message.from_seq} to {message.to_seq}", file=sys.stderr, flush=True)
            elif as_json:
                print(encode(message).decode(), flush=True)
            else:
                print(f"{message.seq:6d}  {message.time}  {_in_words(message.body)}", flush=True)


def _in_words(body: Defect | Coverage | Alarm | Status) -> str:
    if isinstance(body, Defect):
        x, y = body.centroid_mm
        size = f"{body.length_mm:.2f} x {body.width_mm:.2f} mm, {body.area_mm2:.3f} mm2, score {body.score_mean:.2f}"
        return f"{body.label} {body.id} {body.phase} at {y:.1f} mm, {x:.1f} mm across: {size}"
    if isinstance(body, Coverage):
        why = f" ({body.why})" if body.why else ""
        return f"web {body.from_mm:.1f} to {body.to_mm:.1f} mm {body.state}{why}"
    return f"{body.kind}: {body.detail}"
