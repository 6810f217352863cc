"""Durable tasks in a database of Django's: an application of its own, which has the tables.

::

    INSTALLED_APPS = [..., "bgadapters.django", "bgadapters.django.durable"]
    BACKGROUND_TASKS = {"STORE": "django"}  # or "django://alias", of DATABASES

Then ``manage.py migrate``. A durable task that is added in ``atomic()`` is written in that
transaction.
"""
