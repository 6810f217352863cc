"""What a view may do, and what authors of shims build on."""
