"""What a task, a queue, a run and a drain are. Knows no framework and no server."""
