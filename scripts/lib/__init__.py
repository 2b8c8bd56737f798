"""Modules that the demo, the bench and the soak tests share. They are not part of the package."""
