"""Threads that know what their starter is about: the workspace of the registry, the job that log lines are about."""

from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

ResultT = TypeVar("ResultT")


def inheriting(function: Callable[..., ResultT]) -> Callable[..., ResultT]:
    """A function that sees the context variables of now in whatever thread it is called.

    Args:
        function: What threads are to call.
    """
    context = copy_context()

    def call(*args: object) -> ResultT:
        return context.copy().run(function, *args)  # a context can be in one thread at a time only

    return call
