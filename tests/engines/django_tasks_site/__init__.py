"""A site whose tasks go to a backend of Django's tasks framework, in a database."""
