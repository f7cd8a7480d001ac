"""Click models: what a click says of the place, and what of the note. One hypothesis per file."""
