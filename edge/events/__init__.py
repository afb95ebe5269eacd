"""Events nobody loses: written to an outbox with a number, then published; a subscriber asks for what it has missed."""

from edge.events.envelope import Envelope, Origin, decode, json_schema
from edge.events.keys import KeyPair, LineKeys, ListenerKeys
from edge.events.outbox import Outbox
from edge.events.publisher import EventWriter
from edge.events.subscriber import Gap, Subscriber

__all__ = [
    "Envelope",
    "EventWriter",
    "Gap",
    "KeyPair",
    "LineKeys",
    "ListenerKeys",
    "Origin",
    "Outbox",
    "Subscriber",
    "decode",
    "json_schema",
]
