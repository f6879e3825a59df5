"""Fields of settings that are read from text in a way of their own, and are text in files."""

from collections.abc import Callable
from types import NoneType
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, PlainSerializer, WrapValidator


class Parsed:
    """Annotates a field whose text is parsed once, as ``Annotated[Budget, Parsed(Budget.parse)]``.

    Args:
        parse: Reads text that a user wrote. ``str`` of what it returns is text that it reads as
            the same.
    """

    def __init__(self, parse: Callable[[str], object]) -> None:
        self._parse = parse

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        kind, *_ = [each for each in get_args(source) if each is not NoneType] or [source]
        text: Any = str | None if NoneType in get_args(source) else str

        def parsed(value: str | None) -> object:
            return None if value is None else self._parse(value)

        def read(value: object, read_text: Callable[[object], object]) -> object:
            return value if isinstance(value, kind) else read_text(value)

        def written(value: object) -> str | None:
            return None if value is None else str(value)

        return handler.generate_schema(
            Annotated[text, AfterValidator(parsed), WrapValidator(read), PlainSerializer(written)]
        )


class NumberOr:
    """Annotates a whole number that may be a word: ``Annotated[int | Literal["all"], …]``.

    Args:
        words: That it may be.
        ge: Least number.
        le: Largest one.
    """

    def __init__(self, *words: str, ge: int, le: int) -> None:
        self.words, self.ge, self.le = words, ge, le

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> Any:
        def read(value: object, read_number: Callable[[object], object]) -> object:
            return value if value in self.words else read_number(value)

        number = Annotated[int, Field(ge=self.ge, le=self.le), WrapValidator(read)]
        return handler.generate_schema(Annotated[number, PlainSerializer(lambda value: value)])
