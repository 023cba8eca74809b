"""WHAT THE REGISTRY SAYS: model URIs, the pointers in them, versions, and what is written back on those."""
