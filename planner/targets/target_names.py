"""The names of targets, and what makes one from its name."""

from typing import TYPE_CHECKING, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict

from search_spaces.errors import MissingExtraError

if TYPE_CHECKING:
    from planner.targets.target import Target

TargetName = Literal["hf", "gguf", "onnx", "deci"]
"""What ``--format`` offers."""


class TargetChoice(BaseModel):
    """A target by its name, as another process can be told of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: TargetName
    options: dict[str, str] = {}
    """Of its class, such as ``file_type`` of a GGUF file."""

    def make(self) -> "Target":
        """Return the target.

        Raises:
            MissingExtraError: If a package is missing that the target cannot be described without.
        """
        options: dict[str, Any] = self.options
        match self.name:
            case "hf":
                from planner.targets.hf.hf_target import HfTarget

                return HfTarget(**options)
            case "gguf":
                from planner.targets.gguf.gguf_target import GgufTarget

                return GgufTarget(**options)
            case "onnx":
                try:  # which describes graphs by classes of that package
                    from planner.targets.onnx.onnx_target import OnnxTarget
                except ModuleNotFoundError as error:
                    package = error.name or ""
                    if not package.startswith("onnx"):
                        raise
                    raise MissingExtraError(package, "onnx", "`--format onnx`") from error

                return OnnxTarget(**options)
            case "deci":
                from planner.targets.deci.deci_target import DeciTarget

                return DeciTarget(**options)
        assert_never(self.name)
