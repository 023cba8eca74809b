"""What `validateUpload` looks at in the files of a checkpoint. Pure functions."""
