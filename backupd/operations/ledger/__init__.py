"""A region's ledger over all its stores: see `book.Book`."""

from backupd.operations.ledger.book import TOLERANCE, Book, Decide, LedgerPlace, require_not_behind

__all__ = [
    "TOLERANCE",
    "Book",
    "Decide",
    "LedgerPlace",
    "require_not_behind",
]
