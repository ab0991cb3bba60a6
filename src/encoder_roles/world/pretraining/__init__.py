"""Pretraining of the laptop study's five encoders, each in its library's network, with its own objective.

Each objective has a module with its recipe (clip, siglip, dinov2, convnext, sam), and `recipes` is their
table. `loop` trains, `probes` measures the skills of the frozen features, and `cards` writes the model cards.
"""
