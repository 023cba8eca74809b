"""WHEN it goes: what happens in a registry, the rules for it, and the work that follows."""
