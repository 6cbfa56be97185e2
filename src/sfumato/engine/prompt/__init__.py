"""From the text of a prompt to the conditioning of every step."""
