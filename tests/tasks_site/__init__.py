"""A site that enqueues tasks, for a server in a process of its own."""
