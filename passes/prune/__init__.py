"""Structured pruning: channels that vanish from every tensor that holds them."""
