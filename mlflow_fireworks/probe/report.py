"""What a probe found, as text to paste into an issue, and as JSON."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from urllib.parse import urlsplit

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.probe.answers import Answer
from mlflow_fireworks.probe.probe import Result
from mlflow_fireworks.target import PUBLIC_API, Target


def name_service(target: Target) -> str:
    """Who is asked; the names of other addresses than Fireworks' own may be somebody's secret."""
    if target.is_local:
        return "the local Fireworks"
    return urlsplit(PUBLIC_API).netloc if target.base_url == PUBLIC_API else "a Fireworks at another address"


@dataclass(frozen=True)
class Report:
    """A probe's result with where and when it was made.

    Args:
        result: What was found.
        service: Who was asked.
        made_at: When.
    """

    result: Result
    service: str
    made_at: datetime

    def to_markdown(self) -> str:
        """A table of the findings, and every answer folded away below it."""
        result = self.result
        lines = [
            f"### What {self.service} does",
            "",
            f"`mlflow-fireworks probe`, version {version('mlflow-fireworks')}, {self.made_at:%Y-%m-%d %H:%M} UTC"
            + (", interrupted" if result.interrupted else ""),
            "",
            "| point | question | found |",
            "| --- | --- | --- |",
            *(
                f"| {asked.point.name} | {asked.point.question} | {_cell(asked.finding.text)} |"
                for asked in result.asked
            ),
            "",
            *_replay(result),
        ]
        if result.trouble:
            lines += ["Retried, or slow:", "", *(f"- {_cell(text)}" for text in result.trouble), ""]
        if result.left:
            lines += [f"{len(result.left)} of its models could not be deleted.", ""]
        lines += ["<details><summary>Every answer</summary>", ""]
        known: dict[tuple[str, ...], str] = {}
        for asked in result.asked:
            answers = dict.fromkeys(_describe(answer, known) for answer in asked.answers)
            lines += [f"**{asked.point.name}** ({asked.point.how})", "", "```", *answers, "```", ""]
        return "\n".join([*lines, "</details>", ""])

    def to_json(self) -> str:
        """The same for programs."""
        result = self.result
        return json.dumps(
            {
                "version": version("mlflow-fireworks"),
                "made_at": self.made_at.isoformat(timespec="seconds"),
                "service": self.service,
                "interrupted": result.interrupted,
                "ways": result.ways,
                "points": [
                    {
                        "name": asked.point.name,
                        "question": asked.point.question,
                        "how": asked.point.how,
                        "found": asked.finding.text,
                        "answers": [asdict(answer) for answer in asked.answers],
                    }
                    for asked in result.asked
                ],
                "trouble": result.trouble,
                "not_deleted": len(result.left),
            },
            indent=2,
            ensure_ascii=False,
        )


def _replay(result: Result) -> list[str]:
    """How to have the same without an account."""
    if not result.ways:
        return []
    return ["The emulator behaves the same way with:", "", "```", Commands.play(result.ways), "```", ""]


def _describe(answer: Answer, known: dict[tuple[str, ...], str]) -> str:
    """One line; names that came before are not written out again.

    Args:
        answer: What it is about.
        known: The sets of names so far, with what each is called; grows.
    """
    parts = [str(answer.status)]
    if answer.code is not None:
        parts.append(f"code {answer.code}")
    if answer.message:
        parts.append(json.dumps(answer.message, ensure_ascii=False))
    for what, names in (("fields", answer.keys), ("headers", answer.headers)):
        if names in known:
            parts.append(known[names])
        elif names:
            known[names] = f"{what} as in #{len(known) + 1}"
            parts.append(f"{what} #{len(known)}: {' '.join(names)}")
    return f"{answer.call} -> {', '.join(parts)}".replace("```", "'''")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
