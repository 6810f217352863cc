"""A project that is served and killed."""
