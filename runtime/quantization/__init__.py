"""The search for a quantized model that is accurate enough and faster: what is tried, graded, and left float."""
