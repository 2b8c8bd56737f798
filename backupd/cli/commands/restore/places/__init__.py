"""Where `restore` goes: a server, a folder of plain files, a scratch server; and what is left there by killed ones."""
