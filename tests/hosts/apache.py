"""Apache with mod_wsgi in daemon mode, from a configuration made for one test server."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.hosts import debian
from tests.hosts.servers import ROOT, Host, Server

_MODULES = Path("/usr/lib/apache2/modules")

_CONFIGURATION = """\
ServerName localhost
ServerRoot "{directory}"
DefaultRuntimeDir "{directory}"
PidFile "{directory}/pid"
Mutex file:{directory} default
Listen 127.0.0.1:{port}
ErrorLog /dev/stderr
LogLevel warn mpm_event:notice wsgi:info
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
KeepAlive On
KeepAliveTimeout 20
WSGISocketPrefix "{directory}/wsgi"
WSGIRestrictEmbedded On
WSGIDaemonProcess app processes={processes} threads=4 lang=C.UTF-8 python-path={path} {options}
WSGIScriptAlias / "{directory}/app.wsgi" process-group=app application-group=%{{GLOBAL}}
<Directory "{directory}">
  Require all granted
</Directory>
"""

# Daemon processes do not get the environment of Apache's own reliably. This checkout comes
# first, since the packages may name another one, as an editable installation does.
_SCRIPT = """\
import os
import sys

sys.path.insert(0, {root!r})
os.environ.update({environ!r})

from {module} import {attribute} as application
"""


class Apache(Server):
    """Apache in the foreground; the application runs in daemon processes of mod_wsgi.

    Args:
        host: the application.
        environ: for the application.
        processes: how many daemon processes.
        options: further options of ``WSGIDaemonProcess``.
    """

    def __init__(
        self, host: Host, environ: Mapping[str, str], *, processes: int = 1, options: str = ""
    ) -> None:
        self._apache = debian.require("apache2", "apache2")
        _require_mod_wsgi()
        debian.require_readable(ROOT, debian.site_packages())
        self._processes = processes
        self._options = options
        self._directory = debian.make_directory()
        super().__init__(host, environ)

    def _command(self, environ: Mapping[str, str]) -> list[str]:
        directory = Path(self._directory.name)
        module, _, attribute = self.host.app.partition(":")
        environ = {**environ, "TMPDIR": str(directory)}
        script = _SCRIPT.format(root=str(ROOT), environ=environ, module=module, attribute=attribute)
        (directory / "app.wsgi").write_text(script)
        user = f"User {debian.UNPRIVILEGED}\nGroup {debian.UNPRIVILEGED}" if debian.IS_ROOT else ""
        configuration = _CONFIGURATION.format(
            directory=directory,
            port=self.port,
            user=user,
            modules=_MODULES,
            processes=self._processes,
            path=debian.site_packages(),
            options=self._options,
        )
        (directory / "apache.conf").write_text(configuration)
        return [self._apache, "-f", str(directory / "apache.conf"), "-D", "FOREGROUND"]

    def daemons(self) -> list[int]:
        """The processes that run or ran the application, in the order they were started."""
        started = re.findall(r"\(pid=(\d+)\): Starting process", self.log())
        return [int(pid) for pid in started]

    def touch_script(self) -> None:
        """Make the script newer, which is how mod_wsgi is told of new code."""
        script = Path(self._directory.name, "app.wsgi")
        modified = script.stat().st_mtime + 10
        os.utime(script, (modified, modified))

    def stop(self) -> None:
        """End it and remove what it has written."""
        super().stop()
        self._directory.cleanup()


def _require_mod_wsgi() -> None:
    if not (_MODULES / "mod_wsgi.so").exists():
        pytest.skip("mod_wsgi is not installed (Debian's package libapache2-mod-wsgi-py3)")
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not (_MODULES / f"mod_wsgi.so-{ours}").exists():
        pytest.skip(f"mod_wsgi is not built for Python {ours}, whose packages it would import")
