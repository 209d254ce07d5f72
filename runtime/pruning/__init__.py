"""Pruning within a budget: what compressed layers are fitted to, and the search for how much may go."""
