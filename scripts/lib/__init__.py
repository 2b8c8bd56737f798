"""What the demo and the bench share. Not part of the package."""
