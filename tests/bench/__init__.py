"""Measures the real bot; never a test. `python -m bench start telegram` from the tests folder, or `make bench`."""
