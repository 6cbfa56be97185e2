"""Reading, recognising, loading and saving weights."""
