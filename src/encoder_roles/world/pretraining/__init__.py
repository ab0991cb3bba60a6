"""Pretraining of the laptop study's five encoders, each in its library's network, with its own objective.

One module per objective says how and with what pictures (clip, siglip, dinov2, convnext, sam), `recipes` is
their table, `loop` trains, `probes` measures what the frozen features hold, `cards` writes what was measured.
"""
