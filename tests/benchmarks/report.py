"""What benchmarks write: their figures with the day, the machine and the command."""

import json
import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


def write_report(file: Path, results: dict[str, Any]) -> None:
    """The figures, and what is needed to judge them."""
    report = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{os.cpu_count()} cores of {name_processor()}, load {os.getloadavg()[0]:.1f}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "curl": subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1],
        "command": f"python {' '.join(sys.argv)}",
        "results": results,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")


def name_processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()
