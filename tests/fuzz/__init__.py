"""Damaged updates: what every channel does with them, over its recorded ones. `python -m fuzz` looks for more."""
