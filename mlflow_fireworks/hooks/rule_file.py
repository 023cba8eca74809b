"""The rules as the file has them now: read again when it changes, also by an editor or in a ConfigMap."""

import time
from collections.abc import Callable
from pathlib import Path

from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.hooks.outage import name_minute
from mlflow_fireworks.hooks.rules import Rules, load_rules
from mlflow_fireworks.progress import logger

LOOK_SECONDS = 2.0


class RuleFile:
    """Hands out the rules that are in force: those that the file had when it could last be used.

    The file is read each time instead of watched: that sees every way of replacing it, and costs nothing.

    Args:
        path: The file.
        check: Raises what else speaks against rules, such as a missing API key.
        clock: Unix time in seconds.

    Raises:
        FireworksError: The file cannot be used as it is now.
    """

    def __init__(
        self, path: Path, check: Callable[[Rules], object] = lambda _: None, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._content = self._seen = self._read()  # first: what is written meanwhile is seen by the next look
        self.current = load_rules(path)
        check(self.current)
        self.fault = ""
        self._check = check
        self._clock = clock
        self._in_force = self._clock()

    def look(self) -> bool:
        """Take over what the file has now, once it has had that for two looks: it may be half written at the first.

        Returns:
            Whether the rules are other ones now.
        """
        content, self._seen = self._seen, self._read()
        if self._seen != content or (content == self._content and not self.fault):
            return False
        self._content = content
        try:
            rules = load_rules(self.path)
            self._check(rules)
        except FireworksError as error:
            self._refuse(error.message)
            return False
        return self._take_over(rules)

    def _take_over(self, rules: Rules) -> bool:
        was_faulty, self.fault = bool(self.fault), ""
        changes = describe_changes(self.current, rules)
        self.current, self._in_force = rules, self._clock()
        if changes:
            logger.info("%s was reloaded: %s", self.path, changes)
        elif was_faulty:
            logger.info("%s is valid again; its rules are the ones in force", self.path)
        return bool(changes)

    def _refuse(self, reason: str) -> None:
        fault = f"the rule file cannot be used, so the rules of {name_minute(self._in_force)} remain in force: {reason}"
        if fault != self.fault:
            self.fault = fault
            logger.warning("%s", fault)

    def _read(self) -> bytes | None:
        """None when it cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError:
            return None


def describe_changes(old: Rules, new: Rules) -> str:
    """What is other in new rules, in one line: `added 'a'; changed 'b'`; "" when nothing is."""
    before, after = ({rule.title: rule for rule in rules} for rules in (old, new))
    changes = {
        "added": [title for title in after if title not in before],
        "removed": [title for title in before if title not in after],
        "changed": [title for title, rule in after.items() if title in before and before[title] != rule],
    }
    parts = [f"{verb} {', '.join(map(repr, titles))}" for verb, titles in changes.items() if titles]
    return "; ".join(parts) or ("in another order" if list(old) != list(new) else "")
