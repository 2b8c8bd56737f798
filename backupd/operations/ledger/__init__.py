"""A region's ledger over all its stores: see `book.Book`."""

from backupd.operations.ledger.book import TOLERANCE, Book, Decide, Place

__all__ = ["TOLERANCE", "Book", "Decide", "Place"]
