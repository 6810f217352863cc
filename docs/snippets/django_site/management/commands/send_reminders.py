from bgadapters import drain
from bgadapters.django import BackgroundTasks
from django.core.management.base import BaseCommand, CommandError

from notifications import write_notification


class Command(BaseCommand):
    help = "Remind everybody who is named."

    def add_arguments(self, parser):
        parser.add_argument("emails", nargs="+")

    def handle(self, *args, **options):
        with BackgroundTasks() as tasks:
            for email in options["emails"]:
                tasks.add_task(write_notification, email, message="a reminder")
        abandoned = drain()
        if abandoned:
            raise CommandError(f"Not finished: {', '.join(abandoned)}")
