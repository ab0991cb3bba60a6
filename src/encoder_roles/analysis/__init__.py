"""From a table of scores to measures, claims and advice: data frames in, data frames out. No torch."""
