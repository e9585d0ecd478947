"""True triples and factual text out of the fetched databases, and an invented world in their templates."""
