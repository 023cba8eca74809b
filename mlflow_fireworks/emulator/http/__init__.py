"""Sockets and requests: what arrives, what goes wrong on purpose, what leaves."""
