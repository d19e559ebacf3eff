"""The expressions of `ml.custom_metrics`: numbers, metrics, + - * / ** %, functions, and functions over a series."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from attrs import frozen

LONGEST = 1000
"""Characters of an expression."""
OPERATORS: Mapping[type[ast.AST], str] = MappingProxyType(
    {
        ast.Add: "+",
        ast.Sub: "-",
        ast.Mult: "*",
        ast.Div: "/",
        ast.Mod: "%",
        ast.Pow: "**",
        ast.USub: "negative",
        ast.UAdd: "positive",
    }
)
# Function → fewest and most arguments; None: any number.
FUNCTIONS: Mapping[str, tuple[int, int | None]] = MappingProxyType(
    {"exp": (1, 1), "log": (1, 1), "log10": (1, 1), "sqrt": (1, 1), "abs": (1, 1), "min": (2, None), "max": (2, None)}
)
# Function over a series → whether it takes a second argument: "never", "may" or "must".
SERIES: Mapping[str, str] = MappingProxyType(
    {
        "mean": "may",
        "min": "never",
        "max": "never",
        "ema": "must",
        "first": "never",
        "last": "never",
        "delta": "never",
    }
)


class ExpressionError(ValueError):
    """An expression that cannot be read: what is wrong, at which character (from 0), and what would be right."""

    def __init__(self, message: str, *, at: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint


@frozen
class Number:
    """A number as written."""

    value: float


@frozen
class Metric:
    """A metric's value at the step that is computed."""

    name: str


@frozen
class Series:
    """What a function makes of all values of a metric up to now; `argument` is its second, where it has one."""

    function: str
    name: str
    argument: float | None = None


@frozen
class Operation:
    """An operator or a function, and what it is applied to."""

    name: str
    operands: tuple[Expression, ...]


Expression = Number | Metric | Series | Operation


def parse_expression(text: str) -> Expression:
    """What `text` says. Raises `ExpressionError`."""
    if len(text) > LONGEST:
        raise ExpressionError(f"an expression has at most {LONGEST} characters", at=LONGEST)
    try:
        tree = ast.parse(f"({text}\n)", mode="eval").body  # brackets: it may run over several lines
    except SyntaxError as error:
        at = (error.offset or 2) - 2 if error.lineno == 1 else len(text)
        raise ExpressionError(f"this is no expression: {error.msg}", at=min(max(0, at), len(text))) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"this is no expression: {error or type(error).__name__}") from None
    try:
        return _read(tree)
    except ExpressionError as error:  # Python counts bytes
        error.at = len(text.encode()[: error.at].decode(errors="ignore"))
        raise
    except RecursionError:
        raise ExpressionError("this is nested too deeply") from None


def parts(expression: Expression) -> Iterator[Metric | Series]:
    """The metrics and series in an expression, in the order written."""
    if isinstance(expression, Metric | Series):
        yield expression
    elif isinstance(expression, Operation):
        for operand in expression.operands:
            yield from parts(operand)


def _read(node: ast.expr) -> Expression:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Number(_number(node))
    if isinstance(node, ast.Name):
        return Metric(node.id)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return Operation(OPERATORS[type(node.op)], (_read(node.left), _read(node.right)))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return Operation(OPERATORS[type(node.op)], (_read(node.operand),))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node, node.func.id)
    hint = "numbers, names of metrics, + - * / ** % and functions"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        hint = f"metric({node.value!r}) is the metric of that name"
    raise _error(f"{_shown(node)} has no place in an expression", node, hint=hint)


def _call(node: ast.Call, function: str) -> Expression:
    if function == "metric":
        return Metric(_metric_name(node))
    count = len(node.args)
    if function in FUNCTIONS and not (function in SERIES and count == 1):
        fewest, most = FUNCTIONS[function]
        if count < fewest or (most is not None and count > most):
            wanted = f"{fewest}" if most == fewest else f"{fewest} or more"
            raise _error(f"{function}() takes {wanted} arguments, {count} are given", node)
        return Operation(function, tuple(map(_read, node.args)))
    if function not in SERIES:
        known = ", ".join(sorted({*FUNCTIONS, *SERIES, "metric"}))
        raise _error(f"there is no function {function!r}", node, hint=f"known here: {known}")
    return _series(node, function)


def _series(node: ast.Call, function: str) -> Series:
    second = {"never": (1, 1), "may": (1, 2), "must": (2, 2)}[SERIES[function]]
    if not second[0] <= len(node.args) <= second[1]:
        raise _error(f"{function}() takes a metric{_second(function)}", node)
    read = _read(node.args[0])
    if not isinstance(read, Metric):
        hint = "give it a custom metric of its own, above this one, and name that here"
        raise _error(f"{function}() takes the name of a metric, not {_shown(node.args[0])}", node.args[0], hint=hint)
    argument = _number(node.args[1]) if len(node.args) == 2 else None
    if function == "mean" and argument is not None and not (argument.is_integer() and 1 <= argument <= 1e6):
        raise _error("mean(m, n) takes the last n values: a whole number from 1 to 1000000", node.args[1])
    if function == "ema" and argument is not None and not 0 <= argument < 1:
        raise _error("ema(m, a) keeps the share a of what it was: from 0, and less than 1", node.args[1])
    return Series(function, read.name, argument)


def _second(function: str) -> str:
    return {"never": "", "may": ", and a number where only the last values count", "must": " and a number"}[
        SERIES[function]
    ]


def _metric_name(node: ast.Call) -> str:
    if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
        return node.args[0].value
    raise _error("metric() takes one name in quotes", node, hint="metric('eval/loss')")


def _number(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        try:
            return float(node.value)  # type: ignore[arg-type]
        except OverflowError:
            raise _error(f"{_shown(node)} is too large", node) from None
    raise _error(f"{_shown(node)} is not a number", node)


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:37] + "…"


def _error(message: str, node: ast.expr, *, hint: str = "") -> ExpressionError:
    return ExpressionError(message, at=max(0, node.col_offset - 1) if node.lineno == 1 else 0, hint=hint)
