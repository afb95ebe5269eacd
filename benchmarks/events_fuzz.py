"""Good, damaged and random requests to what answers "events since N": a page of what follows, or a refusal in words.

    python -m benchmarks.events_fuzz [--cases 100000]

Prints one JSON object; ends with the request that was answered otherwise, if there is one.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from edge.core.types import Status
from edge.events import Origin, Outbox, decode
from edge.events.envelope import StatusEvent
from edge.events.outbox import OutboxReader
from edge.events.replay_protocol import PageHeader, Refusal
from edge.events.replay_server import answer


def some_request(random: Random) -> bytes:
    """Good, damaged in its fields or in its bytes, or nothing of the kind."""
    values: tuple[object, ...] = (
        0,
        1,
        41,
        -1,
        2**63 - 1,
        2**63,
        1e300,
        0.5,
        None,
        True,
        "",
        "é",
        "all",
        [],
        {},
        [[]],
        "x" * 2000,
    )
    asked: dict[str, Any] = {"version": 1, "since": random.choice((0, 7, 10**6)), "limit": 3, "stream": ""}
    for key in random.sample(sorted(asked), random.randrange(3)):
        asked[key] = random.choice(values)
        if random.random() < 0.3:
            del asked[key]
    data = bytearray(msgspec.json.encode(asked))
    for _ in range(random.choice((0, 0, 1, 3))):
        at = random.randrange(len(data))
        data[at : at + random.randrange(3)] = random.randbytes(random.randrange(3)) or b"["
    return random.randbytes(random.randrange(200)) if random.random() < 0.1 else bytes(data)


def fuzz(folder: Path, cases: int) -> dict[str, Any]:
    """Each request is answered by a page of what follows it or by a refusal in words."""
    random, replies, reasons = Random(1), Counter[str](), Counter[str]()
    with Outbox(folder / "outbox.sqlite") as outbox:
        outbox.append(
            *[Status(kind="running", since="")] * 20, origin=Origin(line="", roll="", model="", calibration="")
        )
        reader = OutboxReader(outbox.path)
        begun_s = time.monotonic()
        for _ in range(cases):
            request = some_request(random)
            try:
                header, *events = answer(reader, request)
                reply = msgspec.json.decode(header, type=PageHeader | Refusal)
                assert all(isinstance(decode(event), StatusEvent) for event in events)
            except Exception as error:
                raise SystemExit(f"{request!r}: {error!r}") from error
            if isinstance(reply, Refusal):
                reasons[reply.error.partition(" - ")[0].partition("(")[0]] += 1
            replies[type(reply).__name__] += 1
        reader.close()
    return {"cases": cases, **replies, "ways_of_refusal": len(reasons), "seconds": round(time.monotonic() - begun_s, 1)}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(fuzz(Path(name), parser.parse_args().cases)))


if __name__ == "__main__":
    main()
