"""What there is and which states it goes through. Starts no thread and does no input or output
but the log."""
