"""The recipes of docs/task-middleware.md, with the packages that they are for."""
