"""Where it goes: the Fireworks control plane."""
