"""An application of the sites."""
