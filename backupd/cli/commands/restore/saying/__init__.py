"""What `restore` prints."""
