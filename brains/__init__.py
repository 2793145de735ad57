"""What thinks: engines behind one interface, and the model files they load."""

if __name__ != "roost.brains":
    raise ImportError("This folder is 'roost.brains': write `import roost.brains`, not `import brains`.")
