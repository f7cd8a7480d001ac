"""Engines that run the SELECTs of the catalog over the lake."""
