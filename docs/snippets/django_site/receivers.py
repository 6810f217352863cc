from bgadapters.django.signals import task_failed
from django.dispatch import receiver

from notifications import send_welcome, write_notification


@receiver(task_failed, sender=send_welcome)
def tell_support(sender, event, **kwargs):
    write_notification("support@example.com", message=f"{event.task.name}: {event.exception}")
