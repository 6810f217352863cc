"""A database backend of a third party that is made of none of Django's."""
