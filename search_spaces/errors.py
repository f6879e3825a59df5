"""The error tree of all three packages.

PlannerError
├── InputError (ValueError)            the user can fix it: one message, exit status 2
│   ├── ModelError                     a model that cannot be loaded or trusted
│   │   └── StructureError             a model that loads but cannot be read
│   ├── DataError                      calibration text that cannot be used
│   ├── BudgetError                    a budget that cannot be parsed or met
│   ├── PlanError                      a plan that is malformed or belongs to another model
│   ├── SettingsError                  an option out of its range
│   ├── LatencyError                   a latency table that is damaged or another device's
│   ├── RunError                       a run folder that is missing, foreign or in use
│   ├── OutputError                    a path that cannot be written to
│   ├── TargetError                    a plan or model that an export target cannot hold
│   └── MissingExtraError              a package that is not installed, of an extra
└── VerificationError (RuntimeError)   an export that does not compute what was scored

Every message states the rule, what was got, and what to do.
"""


class PlannerError(Exception):
    """Root of all errors that the planner raises on purpose.

    Its notes are commands that mend it, to be typed: each is shown whole, on a line of its own.
    """


class InputError(PlannerError, ValueError):
    """A mistake that the user can fix."""


class ModelError(InputError):
    """A model that cannot be loaded or trusted."""


class StructureError(ModelError):
    """A model that loads but whose layers, attention or MLPs cannot be found."""


class DataError(InputError):
    """Calibration text that cannot be used."""


class BudgetError(InputError):
    """A budget that cannot be parsed or met."""


class PlanError(InputError):
    """A plan that is malformed or belongs to another model."""


class SettingsError(InputError):
    """An option out of its range."""


class LatencyError(InputError):
    """A latency table that is damaged or was measured on another device."""


class RunError(InputError):
    """A run folder that is missing, foreign or in use."""


class OutputError(InputError):
    """A path that cannot be written to."""


class TargetError(InputError):
    """A plan or a model that an export target cannot hold."""


class MissingExtraError(InputError):
    """A package that is not installed, as only some users need it."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(
            f"{what} needs the package `{package}`, which is not installed; install it with "
            f"`pip install 'compression-planner[{extra}]'`"
        )


class VerificationError(PlannerError, RuntimeError):
    """An exported model that does not compute what was scored."""


def in_words(error: PlannerError) -> str:
    """Return an error with the commands that mend it, each on a line of its own."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def quoted(text: str, longest: int = 80) -> str:
    """Return a name as a message shows it: on one line, without the middle of a long one."""
    line = "".join(sign if sign.isprintable() else "�" for sign in text)
    if len(line) > longest:
        line = f"{line[: longest // 2]}…{line[len(line) - longest // 2 + 1 :]}"
    return f"`{line}`"
