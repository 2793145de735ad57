"""The smallest plugin: copy it, change it, save it."""

from roost import command


@command
def hello(name: str = "you") -> str:
    """Greet someone."""
    return f"Hello, {name}!"
