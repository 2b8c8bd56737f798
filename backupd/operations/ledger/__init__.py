"""A region's ledger over all its stores: see `book.Book`."""

from backupd.operations.ledger.book import Book, Decide, Place

__all__ = ["Book", "Decide", "Place"]
