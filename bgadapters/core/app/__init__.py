"""One application put together: its settings, its drivers, and who chooses between them."""
