"""Tables of scores from outside the project, read into the form of a study's scores."""
