"""A TCP proxy between an application and its broker, to be cut, frozen, slowed and restored."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Self


class Proxy:
    """Passes on what it is sent to a port of this machine, until it is told to do something else.

    A context manager.

    Args:
        target: the port.

    Attributes:
        port: where it listens.
        delay: seconds for which it keeps each piece of data.
        is_frozen: whether it accepts connections and data, and passes nothing on.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.delay = 0.0
        self.is_frozen = False
        self._is_cut = False
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []  # guarded by _lock
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends the wait in `accept`
        self._thread.join()
        self._listener.close()

    def cut(self) -> None:
        """End all connections, and new ones as soon as they are there."""
        with self._lock:
            self._is_cut = True
            for each in self._ends:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._ends.clear()

    def restore(self) -> None:
        """Pass on again."""
        with self._lock:
            self._is_cut = False

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target), 5)
                server.settimeout(None)
                self._ends += [client, server]
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        late: deque[tuple[float, socket.socket, bytes]] = deque()
        with suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            for each in other:
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(0.005 if late else 0.1):
                    end: socket.socket = key.fileobj  # type: ignore[assignment]
                    data = end.recv(2**16)
                    if not data:
                        raise ConnectionResetError
                    late.append((time.monotonic() + self.delay, other[end], data))
                while late and not self.is_frozen and late[0][0] <= time.monotonic():
                    _, end, data = late.popleft()
                    end.sendall(data)
        for each in other:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
