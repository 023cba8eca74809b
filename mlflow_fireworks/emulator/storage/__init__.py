"""What is kept: resources and uploaded files, and the signed URLs under which files arrive."""
