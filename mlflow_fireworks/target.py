"""Where a deployment goes: the target URI and the environment, read in this one place.

::

    fireworks                          account from FIREWORKS_ACCOUNT_ID, else asked of the API with the key
    fireworks:/ACCOUNT                 that account on api.fireworks.ai
    fireworks://HOST[:PORT][/ACCOUNT]  that API address (https; plain http on loopback only)
    fireworks://local[/ACCOUNT]        the embedded local Fireworks: no account, no network, no cost
"""

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from mlflow_fireworks.credentials import read_credential
from mlflow_fireworks.errors import CredentialsError, InvalidConfigError
from mlflow_fireworks.http import is_loopback

PUBLIC_API = "https://api.fireworks.ai"
LOCAL_ACCOUNT = "local"


@dataclass(frozen=True)
class Target:
    """One account at one API address.

    Args:
        uri: As the user wrote it.
        base_url: Address of the control plane without a trailing slash; None for the embedded local Fireworks,
            whose address is known only once it runs.
        account: Account id, or None when the API is to be asked for it.
    """

    uri: str
    base_url: str | None
    account: str | None

    @property
    def is_local(self) -> bool:
        """Whether this is the embedded local Fireworks."""
        return self.base_url is None


def parse_target(uri: str, environ: Mapping[str, str] = os.environ) -> Target:
    """Read a target URI.

    Args:
        uri: `fireworks…` as in the module's table.
        environ: `FIREWORKS_BASE_URL` (as the official SDK reads it) and `FIREWORKS_ACCOUNT_ID` fill what the
            URI leaves open.

    Raises:
        InvalidConfigError: The URI or one of the variables cannot be used.
    """
    scheme, separator, rest = uri.strip().partition(":")
    if scheme.lower() != "fireworks":
        raise InvalidConfigError(f"target '{uri}' is not a fireworks target; use fireworks or fireworks:/ACCOUNT")
    if any(mark in rest for mark in "@?#"):
        raise InvalidConfigError(
            f"target '{_hide_userinfo(uri)}' must not contain credentials, a query or a fragment; "
            "set FIREWORKS_API_KEY in the environment instead"
        )
    host, account = "", rest.strip("/")
    if rest.startswith("//"):
        host, _, account = rest[2:].partition("/")
        account = account.strip("/")
    elif separator and not account:
        raise InvalidConfigError(f"target '{uri}' names no account; use fireworks or fireworks:/ACCOUNT")
    if account:
        _check_account(account, uri)
    if host.lower() == "local":
        return Target(uri, None, account or LOCAL_ACCOUNT)
    if host and not _looks_like_host(host):
        raise InvalidConfigError(
            f"target '{uri}': '{host}' is not an API address; for the account '{host}' use fireworks:/{host}"
        )
    base_url = _url_of(host, uri) if host else _checked_url(environ.get("FIREWORKS_BASE_URL", "") or PUBLIC_API)
    chosen = account or environ.get("FIREWORKS_ACCOUNT_ID", "").strip()
    if chosen and not account:
        _check_account(chosen, "FIREWORKS_ACCOUNT_ID")
    return Target(uri, base_url, chosen or None)


def load_api_key(target: Target, environ: Mapping[str, str] = os.environ, home: Path | None = None) -> SecretStr:
    """The API key for a target: `FIREWORKS_API_KEY` (a variable or a file), else firectl's `~/.fireworks/auth.ini`.

    Args:
        target: The local Fireworks takes any key, so it needs none.
        environ: Where the variable is read, and `CREDENTIALS_DIRECTORY`, which names the file's folder.
        home: Folder that holds `.fireworks/auth.ini`; the user's home when None.

    Raises:
        CredentialsError: There is no key, or the file cannot be read.
    """
    return locate_api_key(target, environ, home)[0]


def locate_api_key(
    target: Target, environ: Mapping[str, str] = os.environ, home: Path | None = None
) -> tuple[SecretStr, str]:
    """The API key as of `load_api_key`, and where it was found: a variable or a file."""
    if target.is_local:
        return SecretStr("local"), "the local Fireworks accepts any key"
    if (given := read_credential("FIREWORKS_API_KEY", environ)).value:
        return _checked_key(given.value, given.where), given.where
    path = (home or Path.home()) / ".fireworks" / "auth.ini"
    if key := _read_auth_ini(path):
        return _checked_key(key, str(path)), str(path)
    raise CredentialsError(
        "no Fireworks API key: set FIREWORKS_API_KEY (create one at https://app.fireworks.ai/settings/users/api-keys), "
        "or try everything without an account with -t fireworks://local"
    )


def _check_account(account: str, where: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", account):
        raise InvalidConfigError(
            f"{where}: '{account}' cannot be a Fireworks account id (a-z, 0-9 and '-'); "
            "find it in the URL of the Fireworks console; it is not an e-mail address"
        )


def _looks_like_host(host: str) -> bool:
    return "." in host or ":" in host or host == "localhost"


def _url_of(host: str, uri: str) -> str:
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidConfigError(f"target '{uri}': {error}") from None
    return f"{'http' if is_loopback(name) else 'https'}://{host}"


def _checked_url(url: str) -> str:
    """FIREWORKS_BASE_URL, refused where a key would travel in the clear."""
    try:
        parts = urlsplit(url.strip())
        secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        if not (parts.hostname and secure) or parts.username or parts.query or parts.fragment or parts.port == 0:
            raise ValueError  # noqa: TRY301 - one answer for all of them
    except ValueError:
        raise InvalidConfigError(
            "FIREWORKS_BASE_URL must be an https:// address (http:// on loopback only) without credentials"
        ) from None
    return url.strip().rstrip("/")


def _read_auth_ini(path: Path) -> str:
    """The key in firectl's file: `api_key` of its first section that has one, with or without a section header."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(f"cannot read {path} ({type(error).__name__}); set FIREWORKS_API_KEY instead") from None
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text if text.lstrip().startswith("[") else f"[default]\n{text}")
    except configparser.Error:
        raise CredentialsError(f"{path} is not an ini file; set FIREWORKS_API_KEY instead") from None
    keys = (parser.get(section, "api_key", fallback="") for section in parser.sections())
    return next((key.strip() for key in keys if key.strip()), "")


def _checked_key(key: str, where: str) -> SecretStr:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CredentialsError(f"the API key in {where} contains spaces or unexpected characters; copy it again")
    return SecretStr(key)


def _hide_userinfo(uri: str) -> str:
    return re.sub(r"//[^/]*@", "//***@", re.sub(r"[?#].*", "", uri))
