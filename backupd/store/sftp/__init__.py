"""The store adapter over SSH: our own SFTP client on paramiko's SSH."""
