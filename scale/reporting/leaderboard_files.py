"""The leaderboard as rows of a table, as Markdown and as LaTeX."""

from collections.abc import Iterable, Sequence

from scale.published.methods import PLUS, V2
from scale.reporting.entries import FIGURES, Entry
from scale.reporting.leaderboard import Section
from scale.reporting.verified import Gap
from scale.utils.tables import markdown

RULE = (
    "Ranked are methods that were selected on val with at least 3 seeds; the others stand below the line with the "
    "reason. AUC and ACC are the official ones on test, means over the seeds ± their standard deviation; in brackets "
    "the 95 % interval from the test samples, where predictions are there (DeLong's variance for the AUC, on the logit "
    "scale). Ranks are of the figures to three decimals."
)
MARKS = {"best": "*", "same": "=", "apart": "", "inside": "~", "outside": "", "untested": ""}
SOURCES = f"MedMNIST v2: {V2}. MedMNIST+: {PLUS}. † not checked against a copy of the publication, or quoted by others."
MARK_NOTE = (
    "* the best of the ranked; = not distinguishable from the best (paired test on the test samples, DeLong for AUC, "
    "permutation for ACC, p >= .05 after Holm's adjustment for the rows that are tested); ~ the best has no "
    "predictions to test against and lies inside this row's interval; rows without predictions cannot be tested."
)
SHORT = {V2: "MedMNIST v2", PLUS: "MedMNIST+"}
_HEAD = ("method", "input", "selected on", "seeds", "pre-trained", "M params", "G MACs", "AUC", "ACC", "rank", "source")
COLUMNS = (
    *("flag", "size", "method", "kind", "ranked", "reason", "rank_auc", "rank_acc", "auc", "auc_sd", "auc_low"),
    *("auc_high", "beside_auc", "p_auc", "acc", "acc_sd", "acc_low", "acc_high", "beside_acc", "p_acc"),
    *("selected_on", "seeds", "pretrained", "input_size", "parameters", "macs", "source", "note"),
)


def rows(found: Iterable[Section]) -> list[dict[str, object]]:
    """All rows, by the names of `COLUMNS`."""
    return [values(entry) for section in found for entry in (*section.ranked, *section.others)]


def values(entry: Entry) -> dict[str, object]:
    """A row's content by the names of `COLUMNS`."""
    found: dict[str, object] = {name: getattr(entry, name, None) for name in COLUMNS}
    found["ranked"] = "no" if entry.reason else "yes"
    for name in FIGURES:
        interval = getattr(entry, f"{name}_interval")
        found[f"{name}_low"], found[f"{name}_high"] = interval or (None, None)
    return found


def as_markdown(found: Iterable[Section], gaps: Sequence[Gap]) -> str:
    """A table for each data set and size."""
    parts = ["# Leaderboard", RULE, _escaped(MARK_NOTE), SOURCES]
    for section in found:
        table = markdown(_HEAD, [_line(cells(entry)) for entry in section.ranked])
        parts += [f"## {section.name}", table if section.ranked else "No row is ranked."]
        if section.others:
            lines = [_line([*cells(entry), entry.reason]) for entry in section.others]
            parts += ["Not ranked:", markdown((*_HEAD, "not ranked because"), lines)]
    if gaps:
        parts += ["## Not in the tables", "\n".join(f"- `{gap.folder}` {gap.reason}" for gap in gaps)]
    return "\n\n".join(parts) + "\n"


def as_tex(found: Iterable[Section]) -> str:
    """A `table` for each data set and size, for a document with the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}", *(f"% {line}" for line in (RULE, MARK_NOTE, SOURCES))]
    for section in found:
        lines = [" & ".join(_tex(cell) for cell in cells(entry)) + r" \\" for entry in section.ranked]
        if section.others:
            lines.append(rf"\midrule\multicolumn{{{len(_HEAD)}}}{{l}}{{not ranked}} \\")
            lines += [
                " & ".join(_tex(cell) for cell in (*cells(entry)[:-2], entry.reason, source(entry))) + r" \\"
                for entry in section.others
            ]
        label = f"tab:{section.flag}-{section.size or 'unknown'}"
        parts.append(
            "\n".join(
                [
                    r"\begin{table}\centering\footnotesize",
                    rf"\caption{{{_tex(section.name)}}}\label{{{label}}}",
                    r"\begin{tabular}{lrlrlrrrrll}\toprule",
                    " & ".join(_tex(name) for name in _HEAD) + r" \\\midrule",
                    *lines,
                    r"\bottomrule\end{tabular}\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def cells(entry: Entry) -> list[str]:
    """A row as text, in the order of the tables' heads."""
    dagger = "†" if entry.note.startswith(("not checked", "quoted")) else ""
    return [
        entry.method + dagger,
        str(entry.input_size or ""),
        entry.selected_on,
        str(entry.seeds or ""),
        entry.pretrained,
        f"{entry.parameters / 1e6:.2f}" if entry.parameters else "",
        f"{entry.macs / 1e9:.3f}" if entry.macs else "",
        *(f"{figure(entry, name)} {limits(entry, name)}".strip() + _mark(entry, name) for name in FIGURES),
        f"{entry.rank_auc or '-'} / {entry.rank_acc or '-'}",
        source(entry),
    ]


def figure(entry: Entry, name: str) -> str:
    """Mean and spread over seeds."""
    mean, sd = getattr(entry, name), getattr(entry, f"{name}_sd")
    if mean is None:
        return ""
    return f"{mean:.3f}" + (f" ± {sd:.3f}" if sd is not None else "")


def limits(entry: Entry, name: str) -> str:
    """Interval of a figure from the test samples, in brackets; empty where there is none."""
    interval = getattr(entry, f"{name}_interval")
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""


def _mark(entry: Entry, name: str) -> str:
    return MARKS.get(getattr(entry, f"beside_{name}"), "")


def source(entry: Entry) -> str:
    """Where a row's numbers can be read, in a few words."""
    return f"{entry.seeds} runs" if entry.runs else SHORT.get(entry.source, entry.source)


def _line(found: Iterable[str]) -> list[str]:
    return [_escaped(cell) for cell in found]


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("~", "\\~")


_TEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "†": r"\textdagger{}", "~": r"\textasciitilde{}"}
_TEX |= {"^": r"\textasciicircum{}"} | {character: "\\" + character for character in "&%$#_{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
