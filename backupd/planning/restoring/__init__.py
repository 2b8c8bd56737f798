"""What of a snapshot is restored, and how. Pure."""
