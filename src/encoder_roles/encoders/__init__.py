"""Vision encoders behind one interface: pixels in, a grid of features out."""
