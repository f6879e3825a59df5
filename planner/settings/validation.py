"""Settings checked by pydantic, and refused in one sentence with rule, value and remedy."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from search_spaces.errors import SettingsError
from search_spaces.suggestions import suggestion

Settings = TypeVar("Settings", bound=BaseModel)


_BOUNDS = {"greater_than_equal": ("at least", "ge"), "greater_than": ("above", "gt")}


def validated(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Return settings of a kind from values that a user wrote.

    Raises:
        SettingsError: If a value breaks its rule; the message is one sentence.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(complaint(error, kind.model_fields)) from error


def complaint(refusal: ValidationError, names: Iterable[str]) -> str:
    """Return rule, value and remedy of pydantic's first complaint, in one sentence.

    Args:
        refusal: What pydantic raised.
        names: Names of all settings.
    """
    error = refusal.errors()[0]
    name = ".".join(str(part) for part in error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return f"`{name}` must be given, got nothing; set `{name}`"
    if kind == "extra_forbidden":
        return f"a setting must be one that exists, got `{name}`; {suggestion(name, names)}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        rule, remedy = f"{words} {context[key]}", f"raise `{name}`"
    elif kind == "literal_error":
        rule, remedy = f"one of {context['expected']}", f"choose one of these for `{name}`"
    else:
        message = error["msg"].removeprefix("Input should be ")
        rule, remedy = message.partition(",")[0], f"fix `{name}`"
    return f"`{name}` must be {rule}, got {error['input']!r}; {remedy}"
