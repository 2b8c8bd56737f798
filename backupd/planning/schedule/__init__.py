"""When which work is due, and when what failed is tried again. Pure."""
