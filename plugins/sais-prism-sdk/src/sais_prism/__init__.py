"""Prism with all its built-in plugins, under the name that its first users know."""

__version__ = "0.2.0"
