"""The paper: figures, tables, the values its text states, and the PDF. No torch; starts in under two seconds."""
