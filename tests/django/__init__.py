"""The tests of the Django shim. Django is set up here, before anything imports from it."""

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.settings"
django.setup()
del os.environ["DJANGO_SETTINGS_MODULE"]  # or the processes that other tests start would find it
