"""The promise under test: a right result, or one line that names the file or key.

Never a traceback, a hang, or a figure from wrong data.
"""

import faulthandler
from collections import Counter
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, given, settings

from scale.config import ConfigError
from scale.utils.cli import USER_ERRORS

COUNTS = Counter()  # by room and outcome
HANGS = 3600  # seconds after which a case hangs, on however busy a machine
FEW, MANY = 25, 260  # cases of each room in the default suite, and in the slow one


def run(count, draws, action):
    """Draws that many cases, the same in every run, and acts on each; `pytest -s` shows what became of them."""
    how = settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],  # of at most five minutes; explaining would take an hour
        suppress_health_check=list(HealthCheck),
    )
    how(given(draws)(lambda case: action(*case)))()
    print(dict(COUNTS))


@contextmanager
def kept(room, *names):
    """Within it a result is made: an error must be one of the user's, in one line that has one of the names."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    try:
        yield
        COUNTS[room, "right"] += 1  # shown with `pytest -s` by the slow tests
    except ConfigError as error:
        assert all(any(name in line for name in names) for line in error.problems), error  # noqa: PT017
        COUNTS[room, "refused"] += 1
    except USER_ERRORS as error:
        text = str(error)
        assert any(name in text for name in names), f"names none of {names}: {text}"
        lines = [line for line in text.strip().splitlines() if not line.startswith("  - ")]  # a list of all differences
        assert len(lines) == 1, f"not one line: {text}"
        COUNTS[room, "refused"] += 1
    finally:
        faulthandler.cancel_dump_traceback_later()
