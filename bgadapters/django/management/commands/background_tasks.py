"""``manage.py background_tasks``: the settings in force, what the checks say, and stored tasks.

With ``count``, ``list``, ``show``, ``retry``, ``discard`` or ``purge`` it is about the durable
tasks that are kept, as ``python -m bgadapters tasks`` is.
"""

from __future__ import annotations

from argparse import Namespace
from io import StringIO
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from bgadapters.adapters import SettingsError, StoredTasks, StoreUnavailableError
from bgadapters.django.checks import CHECKS, check_connection_limits, check_tables_of_tasks
from bgadapters.django.runtime import SETTING, get_runtime
from bgadapters.stores.command import act, add_actions


class Command(BaseCommand):
    """Print the settings of background tasks and run the checks; or act on stored tasks."""

    help = (
        "Prints the settings of background tasks and runs the checks that concern them. With an "
        "action, looks at the durable tasks that are kept, and acts on them."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Accept ``--database``, and the actions."""
        parser.add_argument(
            "--database",
            action="append",
            dest="databases",
            choices=list(connections),
            help="ask this database for its limit of connections; may be given more than once",
        )
        add_actions(parser, required=False)

    def handle(self, *_: Any, databases: list[str] | None = None, **options: Any) -> None:
        """Print; the exit code is 1 if a check has found something serious.

        That of an action is 1 if a task that was named is not there, or not in the state for it.

        Raises:
            CommandError: there is no store, it cannot be used, or what was given makes no sense.
        """
        if options.get("action") is not None:
            self._act(Namespace(**options))
            return
        given: dict[str, Any] = getattr(settings, SETTING, None) or {}
        for name, value in get_runtime().settings._asdict().items():
            upper = name.upper()
            origin = SETTING if upper in given else "default"
            self.stdout.write(f"{upper} = {value!r}  ({origin})")
        found = [message for check in CHECKS for message in check()]
        found += check_connection_limits(databases=databases)
        found += check_tables_of_tasks(databases=databases)
        for message in found:
            self.stdout.write(self._styled(message))
        if not found:
            self.stdout.write(self.style.SUCCESS("The checks have found nothing."))
        if any(message.is_serious() for message in found):
            raise SystemExit(1)

    def _act(self, given: Namespace) -> None:
        runtime = get_runtime()
        if runtime.settings.store is None:
            raise CommandError(f"{SETTING} has no 'STORE': no task is kept")
        out = StringIO()  # what Django writes to adds ends of lines
        try:
            code = act(StoredTasks(runtime), given, out)
        except (SettingsError, StoreUnavailableError, ValueError) as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(out.getvalue(), ending="")
        if code:
            raise SystemExit(code)

    def _styled(self, message: CheckMessage) -> str:
        style = self.style.ERROR if message.is_serious() else self.style.WARNING
        return style(str(message))
