"""Arithmetic on a text that is not trusted: no eval, and bounds on everything that can grow."""

import ast
import math
import operator
from collections.abc import Callable

Number = int | float

MAX_CHARS = 500
MAX_BITS = 4096
MAX_DIGITS_TO_ROUND = 15

SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "（": "(", "）": ")"})


def evaluate(expression: str) -> Number:
    """The value of an expression; a whole number is exact, others have 12 significant digits.

    Raises ValueError, with a sentence for its author, when there is none.
    """
    if len(expression) > MAX_CHARS:
        raise ValueError(f"The expression is longer than {MAX_CHARS} characters.")
    try:
        value = _value(_parse(expression))
        # 0.1 + 0.2 is 0.3 to a person.
        return float(f"{value:.12g}") if isinstance(value, float) else value
    except ZeroDivisionError:
        raise ValueError("Division by zero.") from None
    except OverflowError:
        raise ValueError("The result is too large.") from None
    except RecursionError:
        raise ValueError("The expression is nested too deeply.") from None


def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression.translate(SIGNS).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # From None: what the parser says speaks of Python, not of arithmetic.
        raise ValueError(f"{expression!r} is no arithmetic.") from None


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in UNARY:
            return UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            return _bounded(BINARY[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return _bounded(_apply(name, [_value(arg) for arg in args]))
        case ast.BinOp(op=ast.BitXor()):
            raise ValueError("Write ** for a power, not ^.")
    raise ValueError(f"{ast.unparse(node)!r} is no arithmetic.")


def _apply(name: str, args: list[Number]) -> Number:
    try:
        return FUNCTIONS[name](*args)
    except TypeError:
        raise ValueError(f"{name} does not take {len(args)} numbers like these.") from None


def _bounded(value: Number | complex) -> Number:
    if isinstance(value, complex) or value != value:
        raise ValueError("The result is no real number.")
    too_large = value.bit_length() > MAX_BITS if isinstance(value, int) else math.isinf(value)
    if too_large:
        raise OverflowError
    return value


def _power(base: Number, exponent: Number) -> Number | complex:
    # Asked before the work is done: 9**9**9 would take it for hours.
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and exponent * base.bit_length() > MAX_BITS:
        raise OverflowError
    return base**exponent


def _round(value: Number, digits: int = 0) -> Number:
    if abs(digits) > MAX_DIGITS_TO_ROUND:
        raise ValueError(f"round takes at most {MAX_DIGITS_TO_ROUND} digits.")
    return round(value, digits) if digits else round(value)


def _sqrt(value: Number) -> float:
    if value < 0:
        raise ValueError("The result is no real number.")
    return math.sqrt(value)


UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
BINARY: dict[type[ast.operator], Callable[[Number, Number], Number | complex]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
FUNCTIONS: dict[str, Callable[..., Number]] = {
    "sqrt": _sqrt,
    "round": _round,
    "abs": abs,
    "min": min,
    "max": max,
}
