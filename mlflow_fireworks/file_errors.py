"""What the operating system says about a file, in words: what happened, and what to do about it."""

import errno
import os

from mlflow_fireworks.in_between import causes
from mlflow_fireworks.redaction import brief

_REMEDIES = {
    errno.ENOENT: "it existed when the model was listed",
    errno.EACCES: "check its permissions and those of the folders above it",
    errno.EPERM: "check its permissions and those of the folders above it",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.EMFILE: "raise the limit with ulimit -n, or send fewer files at a time with -C max_workers=",
    errno.ENFILE: "this machine has too many files open; close some programs",
    errno.ESTALE: "the network file system replaced it or lost it; check that its mount still works",
    errno.EIO: "the disk, or the network behind it, cannot read it; check this machine's system log",
}
_STAYS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}


def describe(error: OSError) -> str:
    """What happened, with the next step where there is one.

    Args:
        error: Of a file on this machine.
    """
    reason = os.strerror(error.errno) if error.errno else brief(error)  # clients of stores derive theirs from it, too
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{reason} ({remedy})" if remedy else reason


def may_pass(error: OSError) -> bool:
    """Whether opening the file once more may help: a network file system comes back, descriptors become free."""
    return error.errno not in _STAYS


def lacks_descriptors(error: BaseException) -> bool:
    """Whether an error is, or comes of, too many open files."""
    return any(isinstance(cause, OSError) and cause.errno in _NO_DESCRIPTORS for cause in causes(error))
