"""Reading environment variables: accepted values and errors."""

from pathlib import Path

import pytest

from telemetry_site.env import BASE_DIR, Environment, InvalidSetting, without_password


def test_unset_or_empty_variable_has_its_default() -> None:
    environment = Environment({"EMPTY": "  "})
    for name in ("EMPTY", "UNSET"):
        assert environment.text(name, "x") == "x"
        assert environment.integer(name, 5, 1, 9) == 5
        assert environment.switch(name, True) is True
        assert environment.url(name, ("redis",)) == ""
        assert environment.folder(name, Path("/here")) == Path("/here")
        assert environment.words(name) == []
        assert environment.key(name) == ""


@pytest.mark.parametrize("text", ["on", "ON", "true", "1", "yes"])
def test_switch_accepts_several_spellings_of_on(text: str) -> None:
    assert Environment({"SWITCH": text}).switch("SWITCH", False) is True


@pytest.mark.parametrize("text", ["0", "10", "-1", "3.5", "0x1f", "²", "one"])
def test_number_out_of_bounds_is_rejected_with_the_bounds(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^NUMBER='.*' is invalid: a whole number from 1 to 9 is accepted$"):
        Environment({"NUMBER": text}).integer("NUMBER", 5, 1, 9)


@pytest.mark.parametrize(
    "text", ["postgresql://user:word@host:5432/name", "postgres:///name?host=/run", "postgresql://[::1]/name"]
)
def test_database_url_is_returned_unchanged(text: str) -> None:
    assert Environment({"URL": text}).url("URL", ("postgres", "postgresql")) == text


@pytest.mark.parametrize("text", ["localhost", "mysql://host/name", "postgresql://", "postgresql://host:port/name"])
def test_url_of_another_scheme_is_rejected(text: str) -> None:
    with pytest.raises(InvalidSetting, match="an address like postgresql://… is accepted"):
        Environment({"URL": text}).url("URL", ("postgresql",))


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://user:sesame@host:5432/name", "postgresql://user:***@host:5432/name"),
        ("postgresql://user:ses:/@me@host/name", "postgresql://user:***@host/name"),
        ("redis://:sesame@host/0", "redis://:***@host/0"),
        ("postgresql:///name?user=me&password=sesame&host=/run", "postgresql:///name?user=me&password=***&host=/run"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_password_in_a_url_is_masked(url: str, masked: str) -> None:
    assert without_password(url) == masked
    with pytest.raises(InvalidSetting) as raised:
        Environment({"URL": url}).url("URL", ("amqp",))
    assert "ses" not in str(raised.value)


def test_relative_folder_is_resolved_against_the_project() -> None:
    assert Environment({"FOLDER": "data/here"}).folder("FOLDER", Path("/x")) == BASE_DIR / "data" / "here"


def test_tilde_in_a_folder_is_the_home_folder() -> None:
    assert Environment({"FOLDER": "~/data"}).folder("FOLDER", Path("/x")) == Path.home() / "data"


def test_error_of_a_short_key_does_not_show_the_key() -> None:
    with pytest.raises(InvalidSetting) as raised:
        Environment({"KEY": "secret-word"}).key("KEY")
    assert "secret-word" not in str(raised.value)


def test_networks_are_parsed_and_invalid_ones_rejected() -> None:
    networks = Environment({"NETS": "10.0.0.0/8, fd00::/8,127.0.0.1"}).networks("NETS")
    assert [str(network) for network in networks] == ["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"]
    for text in ("10.0.0.1/8", "example.com", "10.0.0.0/33"):
        with pytest.raises(InvalidSetting, match=r"networks such as 10.0.0.0/8 or fd00::/8 are accepted"):
            Environment({"NETS": text}).networks("NETS")


def test_function_paths_are_parsed_and_invalid_ones_rejected() -> None:
    paths = Environment({"PATHS": "page=ours.paging.page, log = ours.log"}).paths("PATHS")
    assert paths == {"page": "ours.paging.page", "log": "ours.log"}
    for text in ("page", "page=", "page=page", "=ours.page", "page=ours.page()", "pa ge=ours.page"):
        with pytest.raises(
            InvalidSetting, match=r"entries such as page_on_call=our_package.module.function are accepted"
        ):
            Environment({"PATHS": text}).paths("PATHS")
