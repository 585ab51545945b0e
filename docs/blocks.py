"""The code blocks of a Markdown page, for the guide and for the tests that run them."""

import re

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w/]+\.(?:py|yaml))\n")


def files(text: str) -> dict[str, str]:
    """The blocks whose first line is a comment with a file's name, by that name."""
    found = {}
    for _, body in BLOCK.findall(text):
        named = NAMED.match(body)
        if named:
            found[named[1]] = body
    return found


def commands(text: str) -> list[str]:
    """The lines of the bash blocks, without comments."""
    lines = [line for kind, body in BLOCK.findall(text) if kind == "bash" for line in body.splitlines()]
    return [bare for line in lines if (bare := re.sub(r"(^|\s{2,})#.*", "", line).strip())]
