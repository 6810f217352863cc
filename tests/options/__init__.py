"""Options on every framework."""
