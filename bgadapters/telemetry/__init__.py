"""What is told of tasks to systems that watch applications; each module needs an extra."""
