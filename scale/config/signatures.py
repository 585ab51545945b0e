"""Signatures of `_target_`s, read from source: a configuration is checked before anything heavy is imported."""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scale.utils.choices import nearest

RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
SIMPLE: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
SEQUENCES = {"list", "tuple", "Sequence", "List", "Tuple", "Iterable"}
MAPPINGS = {"dict", "Mapping", "Dict"}


@dataclass(frozen=True)
class Parameter:
    """One argument; `annotation` is its source."""

    annotation: ast.expr | None
    required: bool


@dataclass(frozen=True)
class Signature:
    """Arguments by name; `takes_any` where further keywords are accepted."""

    parameters: Mapping[str, Parameter]
    takes_any: bool


def check(node: Any, *, path: str = "", supplied: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yields what is wrong with every `_target_` at and below a plain configuration node.

    Args:
        node: of dicts, lists and plain values.
        path: where it stands in the configuration.
        supplied: arguments of the outermost target that the program adds.
    """
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from check(item, path=f"{path}[{number}]")
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield from _check_call(node, path, supplied)
    for key, value in node.items():
        yield from check(value, path=f"{path}.{key}" if path else str(key))


def _check_call(node: dict[str, Any], path: str, supplied: frozenset[str]) -> Iterator[str]:
    target = node["_target_"]
    try:
        signature = find(str(target))
    except LookupError as error:
        yield f"{path}._target_={target}: {error.args[0]}"
        return
    name = str(target).rpartition(".")[2]
    for key, value in node.items():
        if key == "_partial_" and not isinstance(value, bool):
            yield f"{path}.{key}={value!r}: give true or false"
        if key in RESERVED:
            continue
        parameter = signature.parameters.get(key)
        if parameter is None:
            if not signature.takes_any:
                allowed = sorted(set(signature.parameters) - supplied)
                yield f"{path}.{key}: {name} takes no {key!r}{nearest(key, allowed)}; allowed: {', '.join(allowed)}"
        elif value == "???":
            yield f"{path}.{key} must be given: {path}.{key}=..."
        elif parameter.annotation is not None and not _fits(value, parameter.annotation):
            yield f"{path}.{key}={value!r}: {name} takes {ast.unparse(parameter.annotation)}"
    if not node.get("_partial_"):
        for key, parameter in signature.parameters.items():
            if parameter.required and key not in node and key not in supplied and "_args_" not in node:
                yield f"{path}.{key} is missing: {name} needs it"


@cache
def find(target: str) -> Signature:
    """The signature of a class or function, without importing it.

    Raises:
        LookupError: there is no such module or name.
    """
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        source = _module_file(".".join(parts[:length]))
        if source is not None:
            break
    else:
        raise LookupError(f"there is no module {'.'.join(parts[:-1])!r}")
    if length != len(parts) - 1:
        raise LookupError(f"{'.'.join(parts[:length])} has no {'.'.join(parts[length:-1])!r}")
    found = _definition(".".join(parts[:-1]), parts[-1])
    if found is None:
        names = [n.name for n in _tree(source).body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
        raise LookupError(f"{'.'.join(parts[:-1])} has no {parts[-1]!r}{nearest(parts[-1], names)}")
    return _signature(*found)


@cache
def _module_file(module: str) -> Path | None:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    for part in rest:
        folder = path.parent
        candidates = [folder / part / "__init__.py", folder / f"{part}.py"]
        found = next((c for c in candidates if c.is_file()), None)
        if found is None or path.name != "__init__.py":
            return None
        path = found
    return path


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse])


def _definition(module: str, name: str, depth: int = 0) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    path = _module_file(module)
    if path is None or depth > 8:
        return None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _statements(_tree(path).body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                if alias.name == "*" or (alias.asname or alias.name) == name:
                    found = _definition(base, name if alias.name == "*" else alias.name, depth + 1)
                    if found:
                        return found
    return None


def _signature(module: str, node: ast.ClassDef | ast.FunctionDef) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return _arguments(node)
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    own = _arguments(init, bound=True) if init else Signature({}, takes_any=True)
    # Our own classes pass further keywords to their base; other libraries' may go anywhere.
    if init is None or (own.takes_any and module.partition(".")[0] == "scale"):
        for base in node.bases:
            found = _definition(module, ast.unparse(base)) if isinstance(base, ast.Name) else None
            if found:
                inherited = _signature(*found)
                return Signature({**inherited.parameters, **own.parameters}, inherited.takes_any)
        return own if init else Signature({}, takes_any=bool(node.bases))
    return own


def _arguments(node: ast.FunctionDef, *, bound: bool = False) -> Signature:
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    missing = len(positional) - len(given.defaults)
    parameters = {a.arg: Parameter(a.annotation, number < missing) for number, a in enumerate(positional)}
    if bound:
        parameters.pop(positional[0].arg)
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        parameters[argument.arg] = Parameter(argument.annotation, default is None)
    return Signature(parameters, takes_any=given.kwarg is not None)


def _fits(value: Any, annotation: ast.expr) -> bool:
    """Whether a plain value can be what a type annotation says; True where that cannot be told from source."""
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str() as source):
            return _fits(value, ast.parse(source, mode="eval").body)
        case ast.Name(id=name) if name in SIMPLE:
            return isinstance(value, SIMPLE[name]) and not (isinstance(value, bool) and name != "bool")
        case ast.Name(id=name) if name in SEQUENCES:
            return isinstance(value, list)
        case ast.Name(id=name) if name in MAPPINGS:
            return isinstance(value, dict)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(value, left) or _fits(value, right)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return value is None or _fits(value, inner)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=options)):
            return any(_fits(value, option) for option in options)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            options = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return any(isinstance(o, ast.Constant) and o.value == value for o in options)
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in SEQUENCES:
            if not isinstance(value, list):
                return False
            kinds = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            plain = [k for k in kinds if not (isinstance(k, ast.Constant) and k.value is ...)]
            return all(any(_fits(item, kind) for kind in plain) for item in value)
        case ast.Subscript(value=ast.Name(id=name)) if name in MAPPINGS:
            return isinstance(value, dict)
    return True
