"""The module that a worker of Procrastinate is started with: an application with an engine."""

from __future__ import annotations

import os

import procrastinate

from bgadapters.engines.procrastinate import ProcrastinateEngine
from tests.engines import work

URL = "TEST_DATABASE"

if URL in os.environ:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ[URL]))
    application = work.application(ProcrastinateEngine(app))
