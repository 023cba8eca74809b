"""Questions about the account and the API itself: credentials, errors, lists."""

from mlflow_fireworks.gateway.refusals import is_about_region
from mlflow_fireworks.probe.answers import Reply
from mlflow_fireworks.probe.checkpoint import make_llama, make_quantized_llama
from mlflow_fireworks.probe.points import Finding, Point
from mlflow_fireworks.probe.session import Session

CATALOGUE = "/v1/accounts/fireworks/models"
_ABSENT = (404, 501)
_WRONG_KEY = "fw_mlflowfireworksprobe0"


def _account(session: Session) -> Finding:
    reply = session.call("GET", f"/v1/{session.parent}")
    for field, stand_in in (("email", "E-MAIL"), ("displayName", "NAME")):
        session.mask.learn(str(reply.body.get(field) or ""), stand_in)
    if not reply.is_success:
        elsewhere = is_about_region(reply.status, reply.answer.message)
        return Finding(reply.describe(), {"account": "other-region"} if elsewhere else {})
    state = reply.body.get("suspendState")
    if state is None:
        return Finding("no suspendState in the answer")
    is_active = state in ("UNSUSPENDED", "")
    return Finding(f"suspendState is {state or 'empty'}", {"account": "active" if is_active else "suspended"})


def _whose_key(session: Session) -> Finding:
    reply = session.call("GET", "/verifyApiKey")
    is_told = "x-fireworks-account-id" in reply.headers
    return Finding(f"{reply.describe()}; a header {'names' if is_told else 'does not name'} the account")


def _wrong_key(session: Session) -> Finding:
    return Finding(_list_one(session, {"Authorization": f"Bearer {_WRONG_KEY}"}).describe())


def _other_header(session: Session) -> Finding:
    reply = _list_one(session, {"x-api-key": session.api_key.get_secret_value()})
    return Finding(_yes_or_no(reply))


def _unknown_model(session: Session) -> Finding:
    return Finding(session.call("GET", f"/v1/{session.model('none')}").describe())


def _pages(session: Session) -> Finding:
    token = session.call("GET", CATALOGUE, params={"pageSize": "1"}).body.get("nextPageToken")
    if not isinstance(token, str) or not token:
        return Finding("no token after the first of one")
    form = "a number" if token.isdecimal() else "opaque text"
    return Finding(f"nextPageToken is {form} of {len(token)} characters")


def _filters(session: Session) -> Finding:
    found = []
    for name in ("supports_lora", "supportsLora"):
        reply = session.call("GET", CATALOGUE, params={"pageSize": "1", "filter": f"{name}=true"})
        found.append(f"{name}: {_yes_or_no(reply)}")
    return Finding("; ".join(found))


def _routers(session: Session) -> Finding:
    reply = session.call("GET", f"/v1/{session.parent}/routers", params={"pageSize": "1"})
    ways = {True: "offered"} if reply.is_success else {reply.status == status: f"absent-{status}" for status in _ABSENT}
    return Finding(_yes_or_no(reply), {"routers": ways[True]} if True in ways else {})


def _quotas(session: Session) -> Finding:
    reply = session.call("GET", f"/v1/{session.parent}/quotas", params={"pageSize": "1"})
    return Finding(_yes_or_no(reply))


def _config_check(session: Session) -> Finding:
    found = []
    for kind, files in (("BF16", make_llama()), ("FP8", make_quantized_llama())):
        body = {name: files[file].decode() for name, file in _CONFIG_FIELDS.items()}
        reply = session.call("POST", "/v1/validateModelConfig", body)
        found.append(f"{kind}: {reply.describe()}")
    return Finding("; ".join(found))


_CONFIG_FIELDS = {"configJson": "config.json", "tokenizerConfigJson": "tokenizer_config.json"}


def _list_one(session: Session, headers: dict[str, str]) -> Reply:
    return session.call("GET", f"/v1/{session.parent}/models", params={"pageSize": "1"}, headers=headers)


def _yes_or_no(reply: Reply) -> str:
    return "yes" if reply.is_success else f"no: {reply.describe()}"


POINTS = (
    Point("key", "Can a key be traced to its account?", "GET verifyApiKey", _whose_key),
    Point("account", "Does the account say whether it is suspended or elsewhere?", "GET the account", _account),
    Point("wrong key", "What is the reply for a wrong key?", "list models with an invented key", _wrong_key),
    Point(
        "x-api-key", "Is the key also accepted in this header?", "list models with x-api-key, no bearer", _other_header
    ),
    Point("unknown model", "What is the reply for an unknown name?", "GET a model that does not exist", _unknown_model),
    Point("pages", "What does a page token look like?", "list one model of the public catalogue", _pages),
    Point("filters", "Snake or camel case in filters?", "list the catalogue with each of them", _filters),
    Point("routers", "Are there routers?", "list the account's routers", _routers),
    Point("quotas", "Can quotas be read?", "list one of the account's quotas", _quotas),
    Point("config check", "What does the free check say, of FP8 too?", "POST validateModelConfig", _config_check),
)
