"""Objects on their way to a store."""
