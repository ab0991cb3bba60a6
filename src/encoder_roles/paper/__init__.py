"""The paper: figures, tables, the values its text states, and the PDF. No torch: it starts at once."""
