"""A model's way to READY: what is decided, what Fireworks is asked to do, and what came of it."""
