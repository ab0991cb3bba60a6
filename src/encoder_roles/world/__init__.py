"""The procedural world of the laptop study: scenes, pictures, captions, questions."""
