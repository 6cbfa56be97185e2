"""The prompt language: from the text that a person writes to the conditions that guide each step.

In the order in which they are applied: `comments`, `extra_networks`, `compose`, `grammar` and `timeline`, `attention`, `chunks`
(none of them imports torch), `encode`, `conditioning`.
"""
