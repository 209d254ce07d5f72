"""The rules stand in the operator table, of operators that there are."""

from __future__ import annotations

from planish.ir.ops import schema
from planish.ir.ops.channels.table import CHANNELS
from planish.ir.ops.table import OPERATORS, lookup


def test_every_rule_is_of_an_operator_and_in_the_table() -> None:
    for name, rule in CHANNELS.items():
        assert lookup(name).channels is rule
        assert name.startswith("com.microsoft::") or schema.newest(name) is not None, name


def test_what_the_table_knew_before_stays() -> None:
    assert OPERATORS["Conv"].infer is not None
    assert OPERATORS["Add"].exact
    assert OPERATORS["DequantizeLinear"].kept
    assert lookup("LSTM").infer is None
