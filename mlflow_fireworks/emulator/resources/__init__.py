"""What the control plane does: one service for each kind of resource."""
