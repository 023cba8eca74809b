"""Scripted trouble. Deterministic: faults fire in the order in which they were added."""

from __future__ import annotations

import dataclasses
import fnmatch
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

_MIN_STATUS, _MAX_STATUS = 200, 599


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next calls of an operation.

    The order in one call is: read the body (or `after_bytes` of it), carry the operation out if `act` is set or
    nothing below replaces its answer, wait `stall_seconds`, then drop, garble or answer `status`.

    Attributes:
        operation: Name of the operation as in the request record, such as ``put_object``; ``*`` and other
            shell patterns match several.
        times: How many calls it hits.
        skip: How many matching calls pass unharmed first.
        path_contains: Only calls whose path contains this.
        status: Answer this HTTP status instead.
        retry_after: ``Retry-After`` of that answer, seconds or an HTTP date.
        body: Body of that answer; by default an error of the usual shape.
        act: Carry the operation out before misbehaving, so that only the answer is lost.
        drop: Cut the connection instead of answering: ``close`` ends it (FIN), ``reset`` tears it (RST).
        after_bytes: Misbehave after this many bytes of the request body; the operation is not carried out. With
            `stall_seconds` alone the body pauses there and then goes on.
        stall_seconds: Wait this long first.
        bytes_per_second: Read the request body no faster than this.
        malformed: Answer 200 with a body that is broken JSON.
        expired: Treat the signed URL as expired.
    """

    operation: str
    times: int = 1
    skip: int = 0
    path_contains: str = ""
    status: int | None = None
    retry_after: str | float | None = None
    body: str | None = None
    act: bool = False
    drop: Literal["", "close", "reset"] = ""
    after_bytes: int | None = None
    stall_seconds: float = 0.0
    bytes_per_second: int | None = None
    malformed: bool = False
    expired: bool = False

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            ValueError: Names the attribute.
        """
        for name in ("times", "skip", "status", "after_bytes", "bytes_per_second"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 0):
                raise ValueError(f"{name} must be a whole number, not {value!r}")
        if self.bytes_per_second == 0:
            raise ValueError("bytes_per_second must be at least 1")
        if self.times < 1 or (self.status is not None and not _MIN_STATUS <= self.status <= _MAX_STATUS):
            raise ValueError("times must be at least 1, and status between 200 and 599")
        if isinstance(self.stall_seconds, bool) or not isinstance(self.stall_seconds, (int, float)):
            raise ValueError("stall_seconds must be a number")  # noqa: TRY004  # one kind of error for all values
        if self.drop not in ("", "close", "reset"):
            raise ValueError(f"drop is close or reset, not {self.drop!r}")
        for name in ("operation", "path_contains", "body"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise ValueError(f"{name} must be text")  # noqa: TRY004  # one kind of error for all values
        if any(character in str(self.retry_after) for character in "\r\n"):
            raise ValueError("retry_after must be one line")

    @property
    def pauses_body(self) -> bool:
        """Whether it only holds the body up for a while."""
        return self.after_bytes is not None and bool(self.stall_seconds) and not self.replaces_answer

    @property
    def replaces_answer(self) -> bool:
        """Whether the caller gets something else than the operation's own answer."""
        return bool(self.status or self.drop or self.malformed or self.expired)


class FaultScript:
    """The faults still to come. Thread-safe.

    Args:
        operations: The names that a fault may refer to.
    """

    def __init__(self, operations: Collection[str]) -> None:
        self._operations = operations
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Append a fault.

        Raises:
            ValueError: A value cannot be meant, or no operation matches its name, so that it could never fire.
        """
        fault.check()
        if not fnmatch.filter(self._operations, fault.operation):
            raise ValueError(f"no operation {fault.operation!r}; there are {', '.join(sorted(self._operations))}")
        with self._lock:
            self._faults.append(fault)

    def take(self, operation: str, path: str) -> Fault | None:
        """The fault for this call, if any, and count it."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if not fnmatch.fnmatchcase(operation, fault.operation) or fault.path_contains not in path:
                    continue
                if fault.skip:
                    self._faults[index] = dataclasses.replace(fault, skip=fault.skip - 1)
                    return None
                if fault.times == 1:
                    del self._faults[index]
                else:
                    self._faults[index] = dataclasses.replace(fault, times=fault.times - 1)
                return fault
        return None

    def pending(self) -> list[Fault]:
        """What has not fired yet."""
        with self._lock:
            return list(self._faults)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()
