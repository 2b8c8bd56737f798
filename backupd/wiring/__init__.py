"""Functions that make what operations need, adapters and values, from the configuration; a file for each operation.

Adapters are imported where they are made: a command loads the libraries of those it uses, and no others.
"""
