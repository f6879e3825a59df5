"""Fields of settings that hold a value parsed from text, and are text again in files."""

from collections.abc import Callable
from types import NoneType
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class Parsed:
    """Annotates a field whose text is parsed once, as ``Annotated[Budget, Parsed(Budget.parse)]``.

    Args:
        parse: Reads text that a user wrote. ``str`` of what it returns is text that it reads as
            the same.
    """

    def __init__(self, parse: Callable[[str], object]) -> None:
        self._parse = parse

    def __get_pydantic_core_schema__(
        self, source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        kinds = [kind for kind in get_args(source) if kind is not NoneType] or [source]

        def read(value: object) -> object:
            if isinstance(value, kinds[0]):
                return value
            if not isinstance(value, str):
                raise PydanticKnownError("string_type")
            return self._parse(value)

        schema = core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.to_string_ser_schema(when_used="always")
        )
        return core_schema.nullable_schema(schema) if NoneType in get_args(source) else schema
