"""Fast forms of the operations that take the time."""
