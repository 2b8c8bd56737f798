"""The ways by which the world is told: each knows one foreign library or none, and nothing of the others."""
