"""All deployments at a glance, what happened to one, and the words people look for: resume, revisions, rollback."""
