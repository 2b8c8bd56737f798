"""What ops and the application say about tenants, and what they ask."""
