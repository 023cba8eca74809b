import pytest

from mlflow_fireworks.errors import CredentialsError, InvalidConfigError
from mlflow_fireworks.names import check_name
from mlflow_fireworks.target import load_api_key, parse_target

API = "https://api.fireworks.ai"


@pytest.mark.parametrize(
    ("uri", "base_url", "account"),
    [
        ("fireworks", API, None),
        ("FIREWORKS:/acme", API, "acme"),
        ("fireworks:/acme", API, "acme"),
        ("fireworks:acme", API, "acme"),
        ("fireworks://fw.example.com", "https://fw.example.com", None),
        ("fireworks://fw.example.com:8443/acme", "https://fw.example.com:8443", "acme"),
        ("fireworks://127.0.0.1:9000/acme", "http://127.0.0.1:9000", "acme"),
        ("fireworks://localhost:9000", "http://localhost:9000", None),
        ("fireworks://[::1]:9000/acme", "http://[::1]:9000", "acme"),
        ("fireworks://local", None, "local"),
        ("fireworks://local/team", None, "team"),
    ],
)
def test_target_uris(uri, base_url, account):
    target = parse_target(uri, {})
    assert (target.base_url, target.account) == (base_url, account)


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("fireworks://acme", "use fireworks:/acme"),
        ("fireworks:", "use fireworks or fireworks:/ACCOUNT"),
        ("fireworks:/me@example.com", "must not contain credentials"),
        ("fireworks:/Acme", "a-z, 0-9"),
        ("fireworks://host.example/acme/more", "cannot be a Fireworks account id"),
        ("fireworks://host.example:port/acme", "host.example:port"),
        ("databricks", "not a fireworks target"),
    ],
)
def test_bad_targets_say_what_to_write(uri, hint):
    with pytest.raises(InvalidConfigError, match=hint):
        parse_target(uri, {})


def test_a_password_in_the_uri_is_not_repeated():
    with pytest.raises(InvalidConfigError) as caught:
        parse_target("fireworks://me:hunter2@host.example/a?key=fw_secret", {})
    assert "hunter2" not in str(caught.value)
    assert "fw_secret" not in str(caught.value)


def test_environment_fills_what_the_uri_leaves_open():
    environ = {"FIREWORKS_BASE_URL": "http://127.0.0.1:8000/", "FIREWORKS_ACCOUNT_ID": "acme"}
    target = parse_target("fireworks", environ)
    assert (target.base_url, target.account) == ("http://127.0.0.1:8000", "acme")
    assert parse_target("fireworks:/other", environ).account == "other"
    assert parse_target("fireworks://local", environ).account == "local"


@pytest.mark.parametrize(
    "url", ["http://api.example.com", "ftp://x", "https://u:p@api.example.com", "https://", "nonsense"]
)
def test_a_key_never_travels_in_the_clear(url):
    with pytest.raises(InvalidConfigError, match="FIREWORKS_BASE_URL must be an https"):
        parse_target("fireworks", {"FIREWORKS_BASE_URL": url})


def test_key_comes_from_the_environment_first(tmp_path):
    write_auth_ini(tmp_path, "api_key = fw_file")
    assert (
        load_api_key(parse_target("fireworks", {}), {"FIREWORKS_API_KEY": "fw_env"}, tmp_path).get_secret_value()
        == "fw_env"
    )


@pytest.mark.parametrize("text", ["api_key = fw_file", "[fireworks]\naccount_id = a\napi_key = fw_file\n"])
def test_key_comes_from_firectls_file_else(tmp_path, text):
    write_auth_ini(tmp_path, text)
    assert load_api_key(parse_target("fireworks", {}), {}, tmp_path).get_secret_value() == "fw_file"


def test_no_key_suggests_the_local_fireworks(tmp_path):
    with pytest.raises(CredentialsError, match="fireworks://local"):
        load_api_key(parse_target("fireworks", {}), {}, tmp_path)


def test_the_local_fireworks_needs_no_key(tmp_path):
    assert load_api_key(parse_target("fireworks://local", {}), {}, tmp_path)


@pytest.mark.parametrize("key", ["fw key", "fw_\u00e9", "fw_\x07x"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(tmp_path, key):
    with pytest.raises(CredentialsError) as caught:
        load_api_key(parse_target("fireworks", {}), {"FIREWORKS_API_KEY": key}, tmp_path)
    assert key not in str(caught.value)


def test_a_broken_auth_file_is_named(tmp_path):
    write_auth_ini(tmp_path, "[unclosed\n")
    with pytest.raises(CredentialsError, match=r"auth\.ini is not an ini file"):
        load_api_key(parse_target("fireworks", {}), {}, tmp_path)


@pytest.mark.parametrize("name", ["a", "chat", "chat-r2", "a" * 63, "q3-8b"])
def test_legal_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("Chat_Model v2", "chat-model-v2"),
        ("3d", "model-3d"),
        ("-x-", "x"),
        ("", "model"),
        ("chat/../x", "chat-x"),
        ("a" * 64, "a" * 63),
    ],
)
def test_bad_names_suggest_a_legal_one(name, better):
    with pytest.raises(InvalidConfigError, match=f"try '{better}'"):
        check_name(name)
    assert check_name(better)


def write_auth_ini(home, text):
    (home / ".fireworks").mkdir()
    (home / ".fireworks" / "auth.ini").write_text(text)
