"""Nodes are written in half precision: constants are converted, and a Cast stands at each border, once a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import RETURN, Attribute, constant
from planish.ir.infer import infer
from planish.ir.tensor import SPOOL_BYTES, ArrayTensor, Tensor
from planish.ir.types import TensorType, refine
from planish.passes.precision.half import Half
from planish.passes.precision.slots import READ_SHAPE
from planish.passes.replacing import merge_origins
from planish.passes.run import Run


class Conversion:
    """One conversion of some nodes of a graph; `free` are the operands of each that become half."""

    def __init__(self, graph: Graph, half: Half, run: Run) -> None:
        self.graph = graph
        self.half = half
        self.run = run
        self.halves: dict[Value, Value] = {}
        self.created: dict[Node, None] = {}
        self.constants: dict[Value, Value] = {}
        self.stored: dict[Value, Value] = {}
        self.replaced: list[Node] = []

    def interface(self, inputs: Sequence[Value]) -> None:
        """Let inputs of the model be of half precision."""
        for value in inputs:
            value.type = TensorType(self.half.dtype, value.shape)
            self.halves[value] = value

    def convert(self, node: Node, slots: Sequence[int], attributes: Mapping[str, Attribute] | None = None) -> None:
        """Put the node's like in half precision before it."""
        operands = [
            self.of(operand) if operand is not None and position in slots else operand
            for position, operand in enumerate(node.operands)
        ]
        made = Node(
            node.op, operands, node.attributes if attributes is None else attributes, len(node.results), node.name
        )
        self.put(made, node, merge_origins((node,)))
        for old, new in zip(node.results, made.results, strict=True):
            if new.dtype is old.dtype:
                new.type = refine(new.type, old.type)
                self.graph.replace_all_uses_with(old, new)
            else:
                new.type = refine(new.type, TensorType(self.half.dtype, old.shape))
                self.halves[old] = new
            new.name = old.name
        self.replaced.append(node)
        self.run.record(f"to-{self.half.name}", made.origin, made.results[0].name)

    def store(self, node: Node, slots: Sequence[int]) -> None:
        """Let a node that stays in single precision read its weights out of half precision, as far as they are in it.

        Constants that both types take alike, as those of one element do, stay: nothing would be gained.
        """
        for position in slots:
            operand = node.operands[position]
            tensor = None if operand is None else operand.constant
            if operand is None or tensor is None or tensor.size <= 1 or self.half.loss(tensor):
                continue
            if operand not in self.stored:
                half = self.of(operand)
                self.stored[operand] = self.new_cast(half, DType.FLOAT, operand)
                self.run.record(f"store-{self.half.name}", (operand.name or node.label,), half.name)
            self.graph.set_operand(node, position, self.stored[operand])
            self.run.log.append(node)

    def put(self, made: Node, before: Node, origin: tuple[str, ...]) -> None:
        if before.graph is not None:
            before.graph.insert(made, before=before)
        made.origin = origin
        infer(made)
        self.created[made] = None

    def of(self, value: Value) -> Value:
        """The value in half precision."""
        found = self.halves.get(value)
        if found is None:
            found = self.halves[value] = self.fixed(value) if value.constant is not None else self.cast(value)
        return found

    def fixed(self, value: Value) -> Value:
        tensor = value.constant
        array = self.half.rounded(tensor.array()) if tensor is not None else None
        if array is None:
            return value
        spool = self.graph.root.spool
        made: Tensor = spool.put(array) if spool is not None and array.nbytes >= SPOOL_BYTES else ArrayTensor(array)
        self.constants[value] = constant(made, f"{value.name}_{self.half.name}" if value.name else "")
        return self.constants[value]

    def cast(self, value: Value) -> Value:
        """The operand of a Cast that made it, else a new Cast, for all readers."""
        producer = value.producer
        source = producer.operands[0] if producer is not None and producer.op == "Cast" else None
        if source is not None and source.dtype is self.half.dtype:
            return source
        return self.new_cast(value, self.half.dtype, value)

    def new_cast(self, value: Value, dtype: DType, old: Value) -> Value:
        """A Cast right behind what makes the value."""
        graph = value.graph or self.graph
        first = graph.returns.after
        made = Node("Cast", (value,), {"to": int(dtype)})
        maker = value.producer
        self.put(made, first if maker is None else maker.after, merge_origins((maker,)) if maker is not None else ())
        made.result.type = refine(made.result.type, TensorType(dtype, old.shape))
        return made.result

    def settle(self, *, interface: bool) -> None:
        """Give single precision to those who still ask for it, and take away what was replaced.

        interface: whether results of the model may be of half precision.
        """
        gone = set(self.replaced)
        for old, new in list(self.halves.items()):
            if old not in self.constants and (old is new or old.producer in gone):
                self.settle_value(old, new, interface=interface)
        for node in reversed(self.replaced):
            if node.graph is not None:
                node.graph.erase(node)
        for old in self.constants:
            if not old.is_used and old.graph is not None:
                if old.producer is not None:
                    old.graph.erase(old.producer)
                elif old in old.graph.initializers:
                    old.graph.erase(old)
        self.run.log.extend(self.created)

    def settle_value(self, old: Value, new: Value, *, interface: bool) -> None:
        single: Value | None = None
        gone = set(self.replaced)
        for user, position in old.uses:
            if user in gone or (user in self.created and old is new):
                continue
            if user.op == "Cast" and user.result.dtype is new.dtype:
                self.graph.replace_all_uses_with(user.result, new)
                self.replaced.append(user)
                continue
            if user.op in READ_SHAPE or user.op == "Cast" or (interface and user is self.graph.returns):
                self.graph.set_operand(user, position, new)
                self.run.log.append(user)
                continue
            if single is None:
                single = self.new_cast(new, DType.FLOAT, old)
            self.graph.set_operand(user, position, single)
            if user.op != RETURN:
                self.run.log.append(user)
