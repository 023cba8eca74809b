"""One short name for the content that goes up, the same on every machine."""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.content import Part
from mlflow_fireworks.artifacts.excerpt import Excerpt
from mlflow_fireworks.artifacts.known_hashes import KnownHashes, look_at
from mlflow_fireworks.errors import NotWantedError
from mlflow_fireworks.progress import Reporter, Silent
from mlflow_fireworks.threads import inheriting

_HASHERS = 8
_PIECE_BYTES = 1024 * 1024
_BLOCK_BYTES = 64 * _PIECE_BYTES
_HEX_DIGITS = 16
_WORTH_SHOWING_BYTES = 1024**3


def fingerprint(
    checkpoint: Checkpoint,
    divided: Checkpoint,
    reporter: Reporter,
    hashes: KnownHashes,
    is_wanted: Callable[[], bool] = lambda: True,
) -> str:
    """Name the content of a checkpoint.

    It covers what kind of model it is to Fireworks, and each file's name, size and content. Weights of a source that
    can never change (a logged model, a commit of the Hub) are named by that source and not read. Weights in a plain
    folder are read in full, once while they do not change: a file edited in place must give another fingerprint, and
    the upload takes far longer than that. They are not hashed while they are sent instead: the model would have to be
    created before its content is known, and only the machine that began an upload could then take it up.

    Large files that go up as shards are read once, as they are; how they are divided counts as well, because Fireworks
    fixes the names of a model's files when it is created.

    Args:
        checkpoint: The files as they are.
        divided: The files as they go up, from `divide_weights`; the same object when nothing was divided.
        reporter: Told when reading takes long.
        hashes: Of what earlier runs have read.
        is_wanted: Whether somebody still wants the result; asked between blocks.

    Returns:
        16 hexadecimal digits.

    Raises:
        NotWantedError: Nobody wants it any more.
    """
    weights = {name: checkpoint.files[name] for name in checkpoint.weight_names()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in checkpoint.contents.items()}
    digests |= _name_weights(weights, reporter, hashes, is_wanted)
    entries = [[name, checkpoint.files[name].size, digest] for name, digest in sorted(digests.items())]
    content: list[object] = [checkpoint.kind.value, entries]
    if divided is not checkpoint:
        content.append([[name, part.size, _hash_header(part)] for name, part in sorted(divided.files.items())])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_HEX_DIGITS]


def _hash_header(part: Part) -> str:
    return hashlib.sha256(part.header if isinstance(part, Excerpt) else b"").hexdigest()


def _name_weights(
    weights: Mapping[str, Part], reporter: Reporter, hashes: KnownHashes, is_wanted: Callable[[], bool]
) -> dict[str, str]:
    named = {name: f"{file.identity}:{file.origin}" for name, file in weights.items() if file.identity is not None}
    known = {name: hashes.find(look_at(file)) for name, file in weights.items() if name not in named}
    named |= {name: digest for name, digest in known.items() if digest is not None}
    changeable = {name: file for name, file in weights.items() if name not in named}
    size = sum(file.size for file in changeable.values())
    shown = reporter if size >= _WORTH_SHOWING_BYTES else Silent()
    shown.transfer_begins("reading the weights, so that the same content can be recognised later", size)
    stop = threading.Event()
    with ThreadPoolExecutor(_HASHERS) as hashers:
        try:
            for name, file in changeable.items():
                named[name] = hashes.hash(file, lambda file: _hash(file, hashers, shown, stop, is_wanted))
        finally:
            stop.set()  # else all blocks of the file would still be read
            shown.transfer_ends()
    return named


def _hash(
    file: Part, hashers: Executor, reporter: Reporter, stop: threading.Event, is_wanted: Callable[[], bool]
) -> str:
    """A hash over the hashes of equal blocks, so that one large file keeps every core busy."""

    def hash_block(start: int) -> bytes:
        digest = hashlib.sha256()
        with open_file() as opened:
            opened.seek(start)
            left = min(_BLOCK_BYTES, file.size - start)
            while left and not stop.is_set() and (piece := opened.read(min(_PIECE_BYTES, left))):
                digest.update(piece)
                left -= len(piece)
                reporter.bytes_moved(len(piece))
        return digest.digest()

    with file.staged() as open_file:
        whole = hashlib.sha256()
        for block in hashers.map(inheriting(hash_block), range(0, file.size, _BLOCK_BYTES)):
            whole.update(block)
            if not is_wanted():
                raise NotWantedError(f"stopped reading {file.origin}: this model is no longer wanted")
        return whole.hexdigest()
