"""A Django project as ``startproject`` makes it, with background tasks."""
