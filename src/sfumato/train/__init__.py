"""Training: recipes, the loop that runs them, and the world that the starter model is made from."""
