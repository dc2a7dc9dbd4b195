"""Meters for the loops of other libraries: one file for each, which imports that library."""
