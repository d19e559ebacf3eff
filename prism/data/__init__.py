"""Datasets without any framework: references, records, digests."""
