"""Local caches of a store's content. Each file can be lost, which costs only the time to read the store again."""
