"""Keys: who may read, who signs, and what stands for a tenant."""
