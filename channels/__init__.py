"""One file per chat platform, each registered as a plugin."""

if __name__ != "roost.channels":
    raise ImportError("This folder is 'roost.channels': write `import roost.channels`, not `import channels`.")
