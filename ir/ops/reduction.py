from planish.ir.ops.operator import Operator

OPERATORS: dict[str, Operator] = {}
