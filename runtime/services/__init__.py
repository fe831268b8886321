"""The use cases: what writes or reaches out, one plain function each, its own transaction."""
