"""The soak test: weeks of the real daemon under a compressed clock, and a check of every promise from outside."""
