"""How the channels of an operator's operands hang together with those of its results: what must vanish together."""
