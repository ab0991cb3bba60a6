"""Effective ranks before and after training: features to spectra to ranks.csv."""
