"""What a machine remembers of a store. Each can be lost, and costs only the time to look again."""
