"""Records of one kind, in the key-value part of huey's storage: SQLite and Redis alike, with the same code."""

from typing import Generic, TypeVar

from huey.constants import EmptyData
from huey.storage import BaseStorage
from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """What is kept in the queue's storage; fields that only another release knows are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


RecordT = TypeVar("RecordT", bound=Record)


class Records(Generic[RecordT]):
    """Records by their keys. One that a different release wrote in a way that this one cannot read counts as none.

    Args:
        storage: Where they are.
        kind: What they are.
        prefix: What their keys begin with there, where it holds others as well.
    """

    def __init__(self, storage: BaseStorage, kind: type[RecordT], prefix: str = "") -> None:
        self._storage = storage
        self._kind = kind
        self._prefix = prefix

    def find(self, key: str) -> RecordT | None:
        """The record of a key."""
        found = self._storage.peek_data(self._prefix + key)
        return None if found is EmptyData else self._read(found)

    def put(self, key: str, record: RecordT) -> None:
        """Write a record down, in place of the one that its key may have."""
        self._storage.put_data(self._prefix + key, _write(record))

    def put_if_new(self, key: str, record: RecordT) -> bool:
        """Write a record down unless its key has one, be it readable or not; whether it was written."""
        return bool(self._storage.put_if_empty(self._prefix + key, _write(record)))

    def forget(self, key: str) -> None:
        """Delete the record of a key."""
        self._storage.delete_data(self._prefix + key)

    def by_key(self) -> dict[str, RecordT | None]:
        """All of them; None for those that cannot be read."""
        items = self._storage.result_items().items()
        own = {str(key): value for key, value in items if key.startswith(self._prefix)}
        return {key.removeprefix(self._prefix): self._read(value) for key, value in own.items()}

    def all(self) -> list[RecordT]:
        """All that can be read."""
        return [record for record in self.by_key().values() if record is not None]

    def _read(self, value: bytes) -> RecordT | None:
        try:
            return self._kind.model_validate_json(bytes(value))
        except ValueError:
            return None


def _write(record: Record) -> bytes:
    return record.model_dump_json().encode()
