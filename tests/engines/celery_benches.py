"""Celery with each broker that it is tested with."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import redis
from celery import Celery

from bgadapters.engines.celery import CeleryEngine
from tests.engines.bench import Bench, until
from tests.engines.celery_worker import BROKER, DIRECTORY, QUEUE, make_app


def is_there(port: int) -> bool:
    """Whether a server of this machine can be reached."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class CeleryBench(Bench):
    """Celery with a broker, and a queue in that to itself.

    Attributes:
        url: that of the broker, with its port left open.
        its_port: that of the broker.
    """

    url: ClassVar[str]
    its_port: ClassVar[int] = 0
    pool: ClassVar[tuple[str, ...]] = ("--pool", "prefork", "--concurrency", "1")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.queue = f"bgadapters-{uuid.uuid4().hex}"
        self.app = self.app_at(self.port)

    def app_at(self, port: int, **config: Any) -> Celery:
        """Make the Celery app as it is where the broker is at a port."""
        return make_app(self.url.format(port), self.queue, self.directory, **config)

    @property
    def port(self) -> int:
        return self.its_port

    @property
    def own(self) -> Any:
        return self.app.tasks["tests.own"]

    def engine_at(self, port: int, **given: Any) -> CeleryEngine:
        return CeleryEngine(self.app_at(port), **given)

    def engine(self, **given: Any) -> CeleryEngine:
        return CeleryEngine(self.app, **given)

    @contextmanager
    def worker(self, *options: str) -> Iterator[Any]:
        environ = {
            BROKER: self.url.format(self.port),
            QUEUE: self.queue,
            DIRECTORY: str(self.directory),
        }
        command = ("-m", "celery", "-A", "tests.engines.celery_worker", "worker", *self.pool)
        quiet = ("--without-mingle", "--without-gossip", "-l", "INFO", "-n", f"{self.queue}@%h")
        number = len(list(self.directory.glob("*.out")))
        with self.process(*command, *quiet, *options, **environ) as process:
            output = self.directory / f"{number}.out"
            until(lambda: " ready." in output.read_text(), self.said)
            yield process

    def waiting(self) -> int:
        with self.connection() as connection:
            channel = connection.default_channel
            count: int = connection.SimpleQueue(self.queue_of(channel)).qsize()
            return count

    def queue_of(self, channel: Any) -> Any:
        """Return the queue as Celery declares it."""
        return self.app.amqp.queues[self.queue](channel)

    def connection(self) -> Any:
        """Return a connection to the broker."""
        return self.app.connection_for_write()

    def forge(self, payload: str) -> str:
        id = uuid.uuid4().hex  # noqa: A001
        self.app.tasks["bgadapters.run"].apply_async((payload,), task_id=id)
        return id

    def has_failed(self, id: str) -> bool:  # noqa: A002
        try:
            return bool(self.app.AsyncResult(id).state == "FAILURE")
        except json.JSONDecodeError:  # the file of the result is being written
            return False

    def close(self) -> None:
        self.app.close()


class RabbitMQBench(CeleryBench):
    url = "amqp://guest:guest@127.0.0.1:{}//"
    its_port = 5672

    def waiting(self) -> int:
        with self.connection() as connection:
            queue = self.queue_of(connection.default_channel)
            return int(queue.queue_declare(passive=False).message_count)

    def close(self) -> None:
        with self.connection() as connection:
            self.queue_of(connection.default_channel).delete()
        super().close()


class RedisBench(CeleryBench):
    url = "redis://127.0.0.1:{}/5"
    its_port = 6379

    def _keys(self, client: Any) -> list[bytes]:
        return list(client.scan_iter(f"{self.queue}*"))

    def waiting(self) -> int:
        with redis.Redis(port=self.port, db=5) as client:
            return sum(client.llen(key) for key in self._keys(client))

    def close(self) -> None:
        with redis.Redis(port=self.port, db=5) as client:
            for key in self._keys(client):
                client.delete(key)
        super().close()


class FilesBench(CeleryBench):
    """Without a server: messages are files."""

    url = "filesystem://"
    ways = ()

    def waiting(self) -> int:
        return len(list((self.directory / "messages").glob(f"*.{self.queue}.msg")))
