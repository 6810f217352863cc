"""Who runs the tasks of a batch: worker threads, event loops, the calling thread."""
