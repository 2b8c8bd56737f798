"""The fault sweep: every operation fails, or is killed, at every call it makes, and is run again."""
