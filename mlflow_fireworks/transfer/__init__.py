"""How it moves: files to signed URLs, in parallel."""
