"""Readers of the published layout, and the synthetic twin that is written in the same layout."""
