"""A site of Django with PostgreSQL, whose tasks go to Procrastinate; tests kill its processes."""
