"""What goes, when, and the proof that it is in time. Pure."""
