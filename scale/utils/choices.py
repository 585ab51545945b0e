"""Errors about a name that does not exist: the nearest allowed one, and all of them."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(given: object, allowed: Iterable[object], *, cutoff: float = 0.6) -> str:
    """`; did you mean 'x'?`, or nothing where no name is near; capital letters do not count."""
    names = {str(name).lower(): str(name) for name in allowed}
    match = get_close_matches(str(given).lower(), list(names), n=1, cutoff=cutoff)
    return f"; did you mean {names[match[0]]!r}?" if match else ""


def suggest(given: object, allowed: Iterable[object]) -> str:
    """The second half of an error about a name: the nearest allowed one, and all of them."""
    names = [str(name) for name in allowed]
    return f"{nearest(given, names).removeprefix('; ')} Allowed: {', '.join(names)}".lstrip()


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raises ValueError, with the nearest allowed value, if `value` is not one of `allowed`."""
    options = list(allowed)
    if value not in options:
        text = ", ".join(map(str, options))
        raise ValueError(f"{name}={value!r} is not one of {text}{nearest(value, options, cutoff=0.5)}")
