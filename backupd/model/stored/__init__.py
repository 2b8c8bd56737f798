"""What stands on a store, as values."""
