"""The models of one name among the thousands of an account, without listing them all."""

from mlflow_fireworks.errors import InvalidRequestError, RefusedError
from mlflow_fireworks.gateway.models import Models
from mlflow_fireworks.gateway.wire import Model

_NOT_IMPLEMENTED = 501


class Lookup:
    """Finds models by the beginning of their ids.

    Lists of Fireworks take a `filter` in the grammar of google.aip.dev/160, where a `*` at the end of a value stands
    for anything. Whether it is heeded for names of models is in no page of the documentation, and an answer that lacks
    a revision would be worse than a slow one. So it is believed after it has found a model that is known to be there
    and left out one that is not meant; else all models are listed.

    Args:
        models: Of the account.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._heeds_filters: bool | None = None

    def find(self, beginning: str) -> list[Model]:
        """All models whose id begins so, and perhaps others.

        Args:
            beginning: Of an id.
        """
        if self._heeds_filters is None:
            pages = self._models.pages()
            first = next(pages)
            if not first.next_page_token:
                return list(first.models)
            self._heeds_filters = self._tries(first.models)
        if self._heeds_filters:
            return list(self._models.list(matching=beginning))
        return list(self._models.list())

    def _tries(self, known: tuple[Model, ...]) -> bool:
        """Whether a filter finds the last of these models by the beginning of its id, and not the first."""
        wanted, other = known[-1].model_id, known[0].model_id
        beginning = wanted[:-1]  # with all of it, an API that looks for the same name would find it, too
        if not beginning or other.startswith(beginning):
            return False
        try:
            found = {model.model_id for model in next(self._models.pages(matching=beginning)).models}
        except RefusedError as error:
            if isinstance(error, InvalidRequestError) or error.status == _NOT_IMPLEMENTED:
                return False
            raise
        return wanted in found and other not in found
