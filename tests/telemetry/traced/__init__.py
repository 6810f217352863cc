"""Applications whose spans are written to a file, for servers to serve."""
