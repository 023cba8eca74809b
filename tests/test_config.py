import pytest

from mlflow_fireworks.config import Config, Kind, parse_config
from mlflow_fireworks.endpoint_config import EndpointConfig
from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.option_values import list_options, parse_options


@pytest.mark.parametrize("word", ["true", "True", "1", "yes", "ON", True, 1])
def test_truth_is_written_in_many_ways(word):
    assert parse_config({"dry_run": word}).dry_run is True


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "off", False, 0])
def test_untruth_too(word):
    assert parse_config({"synchronous": word}).synchronous is False


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("90s", 90), ("1h 30m", 5400), ("1h30m", 5400), ("45", 45), (45, 45), (0.5, 0.5), ("0.5h", 1800)],
)
def test_durations_are_readable(text, seconds):
    assert parse_config({"timeout": text}).timeout == seconds


@pytest.mark.parametrize("text", ["soon", "30 minutes", "-5m", "0", "", "1x", True, "m", "nan", "1h-5m"])
def test_other_durations_are_refused(text):
    with pytest.raises(InvalidConfigError, match=r"-C timeout="):
        parse_config({"timeout": text})


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("16 GiB", 16 * 2**30), ("1.5tb", 15 * 10**11), ("4096", 4096), (4096, 4096), ("7b", 7)],
)
def test_sizes_are_readable(text, size):
    config = parse_config({"shard_size": text, "max_disk": text})
    assert (config.shard_size, config.max_disk) == (size, size)


@pytest.mark.parametrize("text", ["big", "5G", "-5GB", "0", "0.1B", "", True, "GB", "5 GB 3", "1e9"])
@pytest.mark.parametrize("option", ["shard_size", "max_disk"])
def test_other_sizes_are_refused_in_one_sentence(option, text):
    with pytest.raises(InvalidConfigError, match=f"^-C {option}=[^;]*needs a size such as 500MB, 5GB or 16GiB; see"):
        parse_config({option: text})


@pytest.mark.parametrize("word", ["auto", "OFF"])
def test_shard_size_may_be_a_word(word):
    assert parse_config({"shard_size": word}).shard_size == word.lower()
    with pytest.raises(InvalidConfigError, match="-C max_disk"):
        parse_config({"max_disk": word})


@pytest.mark.parametrize(
    ("word", "kind"),
    [("base", Kind.BASE), ("LoRA", Kind.ADDON), ("embedding", Kind.EMBEDDING), ("hf_peft_addon", Kind.ADDON)],
)
def test_kinds_have_short_names(word, kind):
    assert parse_config({"kind": word}).kind is kind


def test_unknown_option_names_the_nearest():
    with pytest.raises(InvalidConfigError, match="unknown option -C timeot; did you mean 'timeout'"):
        parse_config({"timeot": "3"})


def test_unknown_option_without_a_neighbour_points_to_help():
    with pytest.raises(InvalidConfigError, match="mlflow deployments help -t fireworks"):
        parse_config({"zzz": "3"})


def test_blanks_around_key_and_value_do_not_matter():
    assert parse_config({" max_workers ": " 3 "}).max_workers == 3


def test_empty_key_is_refused():
    with pytest.raises(InvalidConfigError, match="has no option name"):
        parse_config({"": "v"})


def test_key_given_twice_with_blanks_is_refused():
    with pytest.raises(InvalidConfigError, match="given twice"):
        parse_config({"timeout": "1m", "timeout ": "2m"})


def test_all_bad_values_are_named_at_once():
    with pytest.raises(InvalidConfigError, match=r"-C public=maybe.*-C max_workers=none") as caught:
        parse_config({"public": "maybe", "max_workers": "none"})
    assert "\n" not in str(caught.value)


def test_nothing_given_means_all_defaults():
    assert parse_config(None) == parse_config({}) == Config()


def test_every_option_has_a_type_and_a_help_text():
    for name, kind, default, text in list_options(Config):
        assert kind, name
        assert default, name
        assert len(text) > 15, name


@pytest.mark.parametrize("table", [Config, EndpointConfig])
def test_a_default_that_help_shows_can_be_written(table):
    for name, _, default, _ in list_options(table):
        if default != "—":
            assert getattr(parse_options({name: default}, table), name) == table.model_fields[name].default, name
