"""Commands and questions about tenants: changes of their state, their standing, and the application's own list."""
