"""Tasks that are kept in a store until they have run."""
