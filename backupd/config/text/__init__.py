"""How values are written: their types, their sizes, their secrets, their lines."""
