"""What decides which job runs when, and sees it to its end."""
