"""Data clients."""
