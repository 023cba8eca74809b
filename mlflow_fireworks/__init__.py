"""MLflow deployment target for Fireworks AI: from a registered model to READY."""
