"""`foilsight listen`: events on the terminal as they are published."""

import sys
from collections.abc import Collection

from edge.core.types import Alarm, Coverage, Defect, Status
from edge.events.envelope import encode
from edge.events.keys import ListenerKeys
from edge.events.subscriber import Gap, Subscriber
from edge.service.stopping import stop_when_asked


def print_events(
    publish: str,
    topics: Collection[str],
    as_json: bool,
    *,
    replay: str | None = None,
    since: int | None = None,
    keys: ListenerKeys | None = None,
) -> None:
    """Print events until ctrl-C, from the one after number `since` on; None: what is published from now on.

    What was missed is asked for at `replay`; what cannot be had is said on the error stream. Raises EventsError.
    """
    print(f"listening at {publish}, ctrl-C ends", file=sys.stderr)
    with (
        stop_when_asked() as stop,
        Subscriber(publish, replay, topics=topics, since=since, stop=stop, keys=keys) as events,
    ):
        for item in events:
            if isinstance(item, Gap):
                print(f"missed events {item.from_seq} to {item.to_seq}: {item.why}", file=sys.stderr, flush=True)
            elif as_json:
                print(encode(item).decode(), flush=True)
            else:
                print(f"{item.seq:6d}  {item.time}  {_in_words(item.body)}", flush=True)


def _in_words(body: Defect | Coverage | Alarm | Status) -> str:
    if isinstance(body, Defect):
        x, y = body.centroid_mm
        size = f"{body.length_mm:.2f} x {body.width_mm:.2f} mm, {body.area_mm2:.3f} mm2, score {body.score_mean:.2f}"
        return f"{body.label} {body.id} {body.phase} at {y:.1f} mm, {x:.1f} mm across: {size}"
    if isinstance(body, Coverage):
        why = f" ({body.why})" if body.why else ""
        return f"web {body.from_mm:.1f} to {body.to_mm:.1f} mm {body.state}{why}"
    return f"{body.kind}: {body.detail}"
