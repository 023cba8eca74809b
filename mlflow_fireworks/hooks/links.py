"""Where a person can look at what the page names: pages of MLflow, of the Hugging Face Hub and of Fireworks."""

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from huggingface_hub import constants

from mlflow_fireworks.errors import FireworksError, InvalidConfigError
from mlflow_fireworks.hooks.jobs import Job
from mlflow_fireworks.target import PUBLIC_API, parse_target

_CONSOLE = "https://app.fireworks.ai/dashboard"
_DEPLOYMENT = re.compile(r"accounts/[^/#]+/deployments/([a-z0-9-]+)")


@dataclass(frozen=True)
class Links:
    """Links to other pages; "" for what has none.

    Args:
        mlflow: Address of MLflow's pages as a browser reaches it, without credentials; "" makes no links there.
    """

    mlflow: str = ""

    def model(self, job: Job) -> str:
        """The registered model or repo that a job's pointer is of."""
        if job.subject.is_on_hub:
            return f"{constants.ENDPOINT}/{quote(job.subject.name)}"
        # MLflow 3.17, routes of its pages: `/models/:modelName/versions/:version`, after a '#'.
        return f"{self.mlflow}/#/models/{quote(job.subject.name, safe='')}" if self.mlflow else ""

    def version(self, job: Job) -> str:
        """The version or commit that a job is about."""
        page = self.model(job)
        if not (page and job.version):
            return ""
        return f"{page}/{'tree' if job.subject.is_on_hub else 'versions'}/{quote(job.version, safe='')}"

    @staticmethod
    def endpoint(job: Job) -> str:
        """The Fireworks deployment that serves what a job promoted; only the real service has pages.

        Source: the address that Fireworks' SDK prints for a deployment (`LLM`); none is known for models of one's own.
        """
        found = _DEPLOYMENT.search(f"{job.result.get('address', '')} {job.result.get('serving', '')}")
        try:
            is_public = parse_target(job.target).base_url == PUBLIC_API
        except FireworksError:
            return ""
        return f"{_CONSOLE}/deployments/{found[1]}" if found and is_public else ""


def find_mlflow_pages(uri: str) -> str:
    """The address of MLflow's pages, when its registry is an MLflow server.

    Args:
        uri: Of the registry. Databricks, files and databases have no such pages.
    """
    parts = urlsplit(uri.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def read_mlflow_pages(url: str) -> str:
    """The same, as a person gave it.

    Raises:
        InvalidConfigError: It is no http(s) address.
    """
    try:
        if found := find_mlflow_pages(url):
            return found
    except ValueError:
        pass
    raise InvalidConfigError("--mlflow-ui: write an address such as https://mlflow.example.com")
