"""A database backend of a third party, which keeps something in its connection objects."""
