"""Passes that make a model compute with integers, and what they need to know of its tensors."""
