"""``python -I child.py SITE MODULE …``: what a process runs first that `processes` has started.

With -I neither the current folder, the environment nor the folder of this file decides what is imported: this package
comes from where its starter has it, and everything else from where the interpreter has it. SITE is the user's own site
folder where the starter uses that, else "". The process ends with its starter, whose end closes its standard input.
"""

import os
import runpy
import signal
import site
import sys
import threading
import time
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_PACKAGE = "mlflow_fireworks"
_GOODBYE_SECONDS = 15.0


def main() -> None:
    """Run the module that the arguments name."""
    _, own_site, module, *arguments = sys.argv
    if own_site:
        site.addsitedir(own_site)
    _find_package(Path(__file__).absolute().parents[1])
    os.umask(0o077)
    _leave_no_core()
    threading.Thread(target=_end_with_starter, name="ends with its starter", daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _find_package(folder: Path) -> None:
    spec = spec_from_file_location(_PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not the package {_PACKAGE}")
    sys.modules[_PACKAGE] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[_PACKAGE])


def _leave_no_core() -> None:
    """A crash in a loader of models must not write what was in memory to the disk."""
    with suppress(ImportError, OSError, ValueError):  # not on Windows
        import resource  # noqa: PLC0415 - see above

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with_starter() -> None:
    """Also after `kill -9` of the starter, when nobody can ask this process to stop."""
    with suppress(OSError, ValueError, AttributeError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GOODBYE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
