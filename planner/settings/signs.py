"""Signs that people and their keyboards write for those of a grammar."""

_SAME = str.maketrans(
    dict.fromkeys("≤≦⩽", "<=")
    | dict.fromkeys("≥≧⩾", ">=")
    | dict.fromkeys("×✕", "x")
    | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # of full width
    | dict.fromkeys("\u200b\u200e\u200f\u2060\ufeff")  # without any width
)


def plain_signs(text: str) -> str:
    """Return text with the plain signs for those that mean the same.

    >>> plain_signs("params ≤ 0.7×, kl=<0.1")
    'params <= 0.7x, kl<=0.1'
    """
    return text.translate(_SAME).replace("=<", "<=").replace("=>", ">=")
