"""What this distribution provides."""
