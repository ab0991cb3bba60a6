"""Anybody's table of scores, read into the form of a study's own."""
