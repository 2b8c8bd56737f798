"""The lives of tenants: folded from the ledger, changed by commands that answer with events. Pure."""
