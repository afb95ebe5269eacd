"""An MQTT broker that may come and go; the only module that knows paho."""

import logging
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from edge.core.config import MqttConfig
from edge.core.errors import EventsError, MissingExtra

try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.reasoncodes import ReasonCode
except ImportError as error:
    raise MissingExtra("paho-mqtt", "mqtt") from error

_POLL_S = 0.2
_LONGEST_PAUSE_S = 10
_KEEPALIVE_S = 10
_LOG = logging.getLogger(__name__)


class Broker:
    """The broker of `config`, connected to by a thread of its own, and anew whenever the connection is lost (MQTT 5).

    A broker that is away is waited for. One that refuses the connection, or is not who it says, ends everything: `stop`
    is set, and leaving the `with` block raises EventsError, as `publish` does.

    `presence` is a topic that holds the last word of `say`, and `last_will` once the connection is lost. What is
    retained is given to the broker again with each connection: it may have forgotten it.
    """

    def __init__(
        self,
        config: MqttConfig,
        password: str | None,
        client_id: str,
        presence: str,
        last_will: str,
        stop: threading.Event,
    ) -> None:
        self.is_connected = False
        self._name = f"{config.host}:{config.port}"
        self._presence, self._last_will = presence, last_will
        self._stop = stop
        self._refusal: str | None = None
        self._troubled = ""
        self._lock = threading.Lock()
        self._retained: dict[str, bytes] = {}
        self._answered = threading.Condition()
        self._answers: dict[int, ReasonCode] = {}
        client = _Client(self._failed, client_id)
        client.username_pw_set(config.user or None, password)
        if config.tls:
            client.tls_set_context(_tls_context(config))
        client.will_set(presence, last_will, qos=1, retain=True)
        client.reconnect_delay_set(1, _LONGEST_PAUSE_S)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        client.connect_async(config.host, config.port, _KEEPALIVE_S)
        self._client = client

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_connected:
            self._client.publish(self._presence, self._last_will, qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()
        if error is None:
            self._complain()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> bool:
        """Return once the broker has the message; False where told to stop before. Raises EventsError where it refuses.

        It may have been handed over twice then, as is the way of MQTT's "at least once".
        """
        if retain:
            with self._lock:
                self._retained[topic] = payload
        self._answers.clear()
        number = self._client.publish(topic, payload, qos=1, retain=retain).mid
        with self._answered:
            while number not in self._answers:
                if self._stop.is_set():
                    self._complain()
                    return False
                self._answered.wait(_POLL_S)
        if self._answers[number].is_failure:
            raise EventsError(
                f"{self._name}: the broker does not take {topic} ({self._answers[number]}): let the user publish there"
            )
        return True

    def say(self, word: str) -> None:
        """Set `presence`, now or as soon as there is a connection."""
        with self._lock:
            self._retained[self._presence] = word.encode()
            if self.is_connected:
                self._client.publish(self._presence, word, qos=1, retain=True)

    def _complain(self) -> None:
        if self._refusal:
            raise EventsError(self._refusal)

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._refuse(f"the broker refuses the connection ({reason}): check [mqtt] user and password")
            return
        with self._lock:
            for topic, payload in self._retained.items():
                client.publish(topic, payload, qos=1, retain=True)
            self.is_connected = True
        self._troubled = ""
        _LOG.info("%s: connected", self._name)

    def _disconnected(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if self.is_connected and not self._stop.is_set():
            self._trouble(str(reason))
        self.is_connected = False

    def _published(self, _client: paho.Client, _data: Any, number: int, reason: ReasonCode, _properties: Any) -> None:
        with self._answered:
            self._answers[number] = reason
            self._answered.notify_all()

    def _failed(self, error: OSError) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            self._refuse(f"the broker's certificate is not trusted ({error.verify_message}): name its own in [mqtt] ca")
        else:
            self._trouble(str(error))

    def _trouble(self, why: str) -> None:
        if why != self._troubled:
            _LOG.warning("%s: the broker is away (%s), events wait", self._name, why)
        self._troubled = why

    def _refuse(self, why: str) -> None:
        self._refusal = f"{self._name}: {why}"
        self._stop.set()


class _Client(paho.Client):
    """Says why a connection could not be made."""

    def __init__(self, tell: Callable[[OSError], None], client_id: str) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self._tell = tell

    def reconnect(self) -> MQTTErrorCode:
        try:
            return super().reconnect()
        except OSError as error:
            self._tell(error)
            raise


def _tls_context(config: MqttConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.ca)
    except (OSError, ssl.SSLError) as error:
        raise EventsError(f"{config.ca}: not certificates that can be read (PEM): mend [mqtt] ca") from error
