"""Evaluating a model on a dataset: predictions, scores, and what people are told about them."""
