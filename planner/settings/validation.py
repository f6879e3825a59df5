"""Values that a user wrote, read by their declared types, or refused in one sentence."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from search_spaces.errors import InputError, SettingsError
from search_spaces.suggestions import MOST_LETTERS, shown, suggestion

Settings = TypeVar("Settings", bound=BaseModel)

_BOUNDS = {
    "greater_than_equal": ("at least", "ge", "raise"),
    "greater_than": ("above", "gt", "raise"),
    "less_than_equal": ("at most", "le", "lower"),
}
_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}


def validated(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Return settings of a kind from values that a user wrote.

    Text is read by a field's declared type, and by nothing else.

    Raises:
        SettingsError: If a value breaks its rule; the message is one sentence.
    """
    for name, value in values.items():
        field = kind.model_fields.get(name)
        if field is not None:
            _check_written(name, value, field)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        refusal = error.errors()[0].get("ctx", {}).get("error")
        if isinstance(refusal, InputError):  # of a value that is parsed, in words already
            raise refusal from error
        raise SettingsError(_complaint(error, kind.model_fields)) from error


def kind_of(annotation: Any) -> Any:
    """Return the type of a field's values that are not none.

    >>> kind_of(int | None), kind_of(Literal["a", "b"])
    (<class 'int'>, <class 'str'>)
    """
    if get_origin(annotation) is Literal:
        return str
    kinds = [kind_of(one) for one in get_args(annotation) if one is not NoneType]
    if kinds:
        return kinds[0]
    return annotation if annotation in _KINDS else str  # what is parsed from text


def _check_written(name: str, value: object, field: FieldInfo) -> None:
    """Refuse what pydantic takes and nobody means: empty text, truth as a number."""
    if isinstance(value, bool) and kind_of(field.annotation) in (int, float):
        rule = _KINDS[kind_of(field.annotation)]
        raise SettingsError(f"`{name}` must be {rule}, got {value}; fix `{name}`")
    if not isinstance(value, str):
        return
    if not value.strip():
        raise SettingsError(f"`{name}` must not be empty, got {value!r}; fill it or leave it out")
    if "\0" in value or _has_half_letters(value):
        rule = f"`{name}` must be text in UTF-8 without NUL"
        raise SettingsError(f"{rule}, got {shown(value)}; write it otherwise")


def _has_half_letters(text: str) -> bool:
    """Return whether text has surrogates: bytes that were none of UTF-8."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _complaint(refusal: ValidationError, fields: Mapping[str, FieldInfo]) -> str:
    """Return rule, value and remedy of pydantic's first complaint, in one sentence."""
    error = refusal.errors()[0]
    name = ".".join(str(part) for part in error["loc"])[:MOST_LETTERS]
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return f"`{name}` must be given, got nothing; set `{name}`"
    if kind == "extra_forbidden":
        return f"a setting must be one that exists, got `{name}`; {_near(name, fields)}"
    if kind in _BOUNDS:
        words, key, remedy = _BOUNDS[kind]
        limit = context[key]
        rule = f"{words} {limit:,.0f}" if limit >= 1e4 else f"{words} {limit:g}"
    elif kind == "literal_error":
        rule, remedy = f"one of {context['expected']}", "choose one of these for"
    elif kind == "finite_number":
        rule, remedy = "a finite number", "fix"
    else:
        field = fields.get(str(error["loc"][0]))
        rule = _rule(field) if field else "of the right form"
        remedy = "fix"
    got = shown(error["input"])
    got = got.strip("'") if kind in _BOUNDS else got  # a number, as typed or as it is
    return f"`{name}` must be {rule}, got {got}; {remedy} `{name}`"


def _rule(field: FieldInfo) -> str:
    """Return what a field must be: of a kind, or a word in the place of one."""
    words = [get_args(each) for each in get_args(field.annotation) if get_origin(each) is Literal]
    kind = _KINDS.get(kind_of(field.annotation), "of the right form")
    return " or ".join([kind, *(repr(word) for of_one in words for word in of_one)])


def _near(name: str, names: Iterable[str]) -> str:
    """Return the nearest of some names, or a few of them."""
    listed = list(names)
    some = f"choose from {', '.join(listed[:8])}{' …' if len(listed) > 8 else ''}"
    return suggestion(name, listed, some)
