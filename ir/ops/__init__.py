"""What each operator means: its schema, its types, its value on constants, its effects."""
