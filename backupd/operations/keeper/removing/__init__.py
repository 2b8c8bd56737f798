"""Purge and expiry: what is removed, in which order, and the looks afterwards."""
