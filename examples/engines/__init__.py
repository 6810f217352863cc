"""One application, in Flask, FastAPI and Django, whose tasks run where a setting says."""
