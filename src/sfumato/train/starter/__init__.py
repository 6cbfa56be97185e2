"""The starter model's world: rendered scenes with captions, what measures them, and the sizes of its networks."""
