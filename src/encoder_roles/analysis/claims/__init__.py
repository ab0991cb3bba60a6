"""What the measures say of each claim under test: a verdict, and the estimate and interval behind it."""
