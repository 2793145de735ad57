"""What remembers: the window of recent turns and the store that keeps it."""

if __name__ != "roost.memory":
    raise ImportError("This folder is the package 'roost.memory': write `import roost.memory`, not `import memory`.")
