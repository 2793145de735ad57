"""One file for every channel: its platform, with people on it, for the conformance scenarios."""
