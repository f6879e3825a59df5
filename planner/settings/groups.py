"""Groups that settings are listed in by `--help` and docs/options.md."""

from enum import StrEnum

from pydantic.fields import FieldInfo


class Group(StrEnum):
    """Title of a group; a field belongs to one by ``Annotated[type, Group.SEARCH]``."""

    TEXT = "text"
    SEARCH = "search"
    SPACE = "space"
    METHODS = "methods"
    EXPERTS = "experts"
    TASKS = "tasks"
    TRAINING = "training"
    MACHINE = "machine"


def group_of(field: FieldInfo) -> Group:
    """Return the group of a field of settings.

    Raises:
        LookupError: If the field belongs to none.
    """
    for annotation in field.metadata:
        if isinstance(annotation, Group):
            return annotation
    raise LookupError(f"a setting must have a group, got none: {field.description}")
