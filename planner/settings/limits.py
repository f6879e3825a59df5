"""Limits of numbers that no model and no machine has a use beyond."""

from collections.abc import Mapping

from search_spaces.errors import SettingsError

MOST_SEED = 2**32 - 1
"""That every searcher takes."""
MOST_TOKENS = 2**24
"""In one sequence, and in all text that a model writes itself."""
MOST_WINDOWS = 10**6
MOST_EXPERTS = 2**16


def check_own_text(windows: Mapping[str, int], window_tokens: int) -> None:
    """Refuse more text than a model should write itself.

    Args:
        windows: Numbers of windows by the settings that ask for them.
        window_tokens: Tokens in a window.

    Raises:
        SettingsError: If one asks for too many tokens.
    """
    name = max(windows, key=windows.__getitem__)
    if windows[name] * window_tokens > MOST_TOKENS:
        raise SettingsError(
            f"`{name}` of text that the model writes must have at most {MOST_TOKENS:,} tokens, "
            f"got {windows[name]} of {window_tokens}; give text with `--data`, or ask for less"
        )
