"""Reports of restore drills as a chain and as a population. Pure."""
