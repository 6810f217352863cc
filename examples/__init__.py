"""Three small applications that do the same, and a demonstration that runs them."""
