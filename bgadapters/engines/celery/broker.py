"""Connections to the broker of a Celery app on which nothing waits for longer than it may.

Celery's own ones wait without end for a broker that accepts connections and never answers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Semaphore
from time import monotonic
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from bgadapters.adapters import EngineUnavailableError

AMQP, REDIS, MEMORY = "amqp", "redis", "memory"
_LIMIT = 10  # connections, if the app sets no ``broker_pool_limit``
_STALE = 0.5  # the part of the timeout within which a connection fails that was closed long ago


class Broker:
    """Publishes for one engine.

    Args:
        app: the Celery app.
        timeout: seconds that the broker may take for an answer.
    """

    def __init__(self, app: Celery, timeout: float) -> None:
        self._app = app
        self._timeout = timeout
        self._kind: str | None = None
        self._free: Semaphore | None = None  # of which there are as many as connections may be
        self._idle: deque[Any] = deque()  # producers, each with a connection of its own

    @property
    def kind(self) -> str:
        """What it is, as kombu names it: ``"amqp"``, ``"redis"``, ``"memory"`` and others."""
        if self._kind is None:
            self._kind = str(self._app.connection_for_write().transport.driver_type)
        return self._kind

    @property
    def options(self) -> Mapping[str, Any]:
        """The setting ``broker_transport_options``."""
        return self._app.conf.broker_transport_options or {}

    @property
    def confirms(self) -> bool:
        """Whether what was published will survive this process, for all that Celery knows."""
        if self.kind == AMQP:
            return self.options.get("confirm_publish") is True
        return self.kind != MEMORY

    def publish(self, publish: Callable[..., object]) -> None:
        """Publish something.

        Args:
            publish: does it, with these keyword arguments of ``apply_async``.

        Raises:
            EngineUnavailableError: the broker cannot be reached, or does not answer.
            Exception: what else ``publish`` raises.
        """
        if self._free is None:
            self._free = Semaphore(self._app.conf.broker_pool_limit or _LIMIT)
        free = self._free
        if not free.acquire(timeout=self._timeout or None):
            raise EngineUnavailableError("all connections to Celery's broker are in use")
        try:
            self._publish_at_once(publish)
        finally:
            free.release()

    def _publish_at_once(self, publish: Callable[..., object]) -> None:
        began = monotonic()
        with suppress(IndexError):
            idle = self._idle.pop()
            try:
                self._publish(idle, publish)
                return
            except EngineUnavailableError:
                if monotonic() - began > self._timeout * _STALE:
                    raise
            self.close()  # of those that are kept the others were closed as well
        self._publish(self._connected(), publish)

    def _publish(self, producer: Any, publish: Callable[..., object]) -> None:
        seconds = self._timeout or None
        try:
            publish(producer=producer, retry=False, timeout=seconds, confirm_timeout=seconds)
        except BaseException as exc:
            connection = producer.connection
            down = OperationalError, OSError, *connection.connection_errors
            _give_up(producer)
            if isinstance(exc, down):
                raise _unavailable(exc) from exc
            raise
        self._idle.append(producer)

    def _connected(self) -> Any:
        """Return a producer that has a connection."""
        seconds = self._timeout
        limits: dict[str, Any] = {}
        if self.kind == AMQP:
            limits = {"read_timeout": seconds, "write_timeout": seconds}
            limits["confirm_publish"] = self.options.get("confirm_publish", True)
        elif self.kind == REDIS:
            limits = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        connection = self._app.connection_for_write(
            connect_timeout=seconds, transport_options={**limits, "max_retries": 0}
        )
        producer = self._app.amqp.Producer(connection, auto_declare=False)
        try:
            connection.default_channel  # noqa: B018  which connects
        except Exception as exc:
            _give_up(producer)
            raise _unavailable(exc) from exc
        except BaseException:
            _give_up(producer)
            raise
        return producer

    def close(self) -> None:
        """Close what is kept."""
        while self._idle:
            with suppress(IndexError):
                _release(self._idle.pop())

    def reset_after_fork(self) -> None:
        """Leave the connections to the parent: a child that closes one ends it for both."""
        inherited, self._idle, self._free = self._idle, deque(), None
        for each in inherited:
            connection = each.connection
            sock = getattr(connection.connection, "sock", None) if connection.connected else None
            if sock is not None:
                os.close(sock.detach())


def _unavailable(exc: BaseException) -> EngineUnavailableError:
    return EngineUnavailableError(f"Celery's broker does not take it: {exc}")


def _release(producer: Any) -> None:
    with suppress(Exception):
        producer.connection.release()


def _give_up(producer: Any) -> None:
    """Close a connection without telling the broker, which may not listen."""
    with suppress(Exception):
        producer.connection.collect()
