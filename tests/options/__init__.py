"""The options of tasks, in the same way on every framework."""
