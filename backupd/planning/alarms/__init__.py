"""What is wrong with a region, and who is to be told of it when. Pure."""
