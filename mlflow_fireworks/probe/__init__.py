"""What the real service does where nobody knows: asked on a real account with tiny models, which are deleted again."""
