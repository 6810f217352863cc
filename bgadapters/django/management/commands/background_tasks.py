"""``manage.py background_tasks``: the settings in force, and what the checks say of them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from bgadapters.django.checks import CHECKS, check_connection_limits
from bgadapters.django.runtime import SETTING, get_runtime


class Command(BaseCommand):
    """Print the settings of background tasks and run the checks that concern them."""

    help = "Prints the settings of background tasks and runs the checks that concern them."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Accept ``--database``."""
        parser.add_argument(
            "--database",
            action="append",
            dest="databases",
            choices=list(connections),
            help="ask this database for its limit of connections; may be given more than once",
        )

    def handle(self, *_: Any, databases: list[str] | None = None, **__: Any) -> None:
        """Print; the exit code is 1 if a check has found something serious."""
        given: dict[str, Any] = getattr(settings, SETTING, None) or {}
        for name, value in get_runtime().settings._asdict().items():
            upper = name.upper()
            origin = SETTING if upper in given else "default"
            self.stdout.write(f"{upper} = {value!r}  ({origin})")
        found = [message for check in CHECKS for message in check()]
        found += check_connection_limits(databases=databases)
        for message in found:
            self.stdout.write(self._styled(message))
        if not found:
            self.stdout.write(self.style.SUCCESS("The checks have found nothing."))
        if any(message.is_serious() for message in found):
            raise SystemExit(1)

    def _styled(self, message: CheckMessage) -> str:
        style = self.style.ERROR if message.is_serious() else self.style.WARNING
        return style(str(message))
