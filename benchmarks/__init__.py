"""This library beside what its users would otherwise use, on the same work, in one run."""
