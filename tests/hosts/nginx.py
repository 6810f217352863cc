"""nginx in front of another server, from a configuration made for one test server."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from tests.hosts import debian
from tests.hosts.servers import Host, Server

_CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    upstream app {{
        server 127.0.0.1:{upstream};
        {keepalive}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            proxy_set_header Host $host;
            {protocol}
        }}
    }}
}}
"""

# HTTP/1.0 without keep-alive is what nginx speaks to an upstream unless it is told otherwise.
_PROTOCOLS = {
    "http/1.0": ("", ""),
    "keepalive": ("keepalive 4;", 'proxy_http_version 1.1; proxy_set_header Connection "";'),
}


class Nginx(Server):
    """nginx in the foreground, with the server that it passes requests to.

    The process that `terminate` ends and `wait` waits for is that server's: nginx
    stays when an application is deployed. `signal` tells nginx itself: SIGHUP reloads it, SIGQUIT
    ends it gracefully.

    Args:
        host: its server's command is the protocol that nginx speaks to the server behind it.
        environ: for the application.
        options: of the server behind it.
    """

    def __init__(self, host: Host, environ: Mapping[str, str], *options: str) -> None:
        self._nginx = debian.require("nginx", "nginx-light")
        self._protocol = host.server.command
        self._directory = debian.make_directory()
        upstream = host._replace(server=host.server.upstream)
        self.upstream = Server(upstream, environ, *options)
        try:
            super().__init__(host, environ)
        except BaseException:
            self.upstream.stop()
            raise

    def _command(self, environ: Mapping[str, str]) -> list[str]:
        keepalive, protocol = _PROTOCOLS[self._protocol]
        configuration = _CONFIGURATION.format(
            directory=self._directory.name,
            user=f"user {debian.UNPRIVILEGED};" if debian.IS_ROOT else "",
            upstream=self.upstream.port,
            port=self.port,
            keepalive=keepalive,
            protocol=protocol,
        )
        path = Path(self._directory.name, "nginx.conf")
        path.write_text(configuration)
        return [self._nginx, "-e", "stderr", "-p", self._directory.name, "-c", str(path)]

    def log(self) -> str:
        """What the server behind nginx has printed so far, and nginx."""
        return self.upstream.log() + super().log()

    def terminate(self) -> None:
        """Send SIGTERM to the server behind nginx."""
        self.upstream.terminate()

    def wait(self, timeout: float = 30) -> int:
        """Wait until the server behind nginx has ended."""
        return self.upstream.wait(timeout)

    def wait_for_nginx(self, timeout: float = 30) -> int:
        """Wait until nginx has ended."""
        return super().wait(timeout)

    def stop(self) -> None:
        """End both and remove what was written for them."""
        try:
            self.upstream.stop()
        finally:
            if self._process.poll() is None:
                self.signal(signal.SIGTERM)
                self.wait_for_nginx()
            super().stop()
            self._directory.cleanup()
