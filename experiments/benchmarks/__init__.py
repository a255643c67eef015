"""Measurements of speed and quality; each docstring gives its command."""
