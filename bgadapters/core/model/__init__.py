"""What there is and which states it goes through. Starts no thread, and writes but to the log."""
