"""What Fireworks' API looks like: errors, tables of messages and routes, and what is generated from them."""
