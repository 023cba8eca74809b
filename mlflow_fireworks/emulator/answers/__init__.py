"""What a question gets: the rules that route it, and the models that answer it."""
