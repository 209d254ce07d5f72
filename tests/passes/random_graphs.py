"""Random models with much to simplify: chains that do nothing, shapes worked out, nodes that stand twice, branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import onnx

from tests.equivalence import model

Dims = tuple[str | int, ...]
_NUMBERS = ("0.0", "-0.0", "1.0", "-1.0", "2.5", "0.5")
_UNARY = ("Neg", "Abs", "Identity", "Relu", "Floor", "Dropout", "Cast<to = 1>", "Sum", "Max", "CastLike")


@dataclass
class Writer:
    """Lays down nodes as text; `values` are the float tensors in sight, with their dims."""

    random: Random
    names: list[str] = field(default_factory=list[str])
    values: list[tuple[str, Dims]] = field(default_factory=list[tuple[str, Dims]])
    nodes: list[str] = field(default_factory=list[str])
    constants: list[str] = field(default_factory=list[str])

    def name(self, kind: str) -> str:
        self.names.append(f"{kind}{len(self.names)}")
        return self.names[-1]

    def pick(self) -> tuple[str, Dims]:
        """Mostly one of the latest, so that chains grow."""
        return self.random.choice(self.values[-4:] if self.random.random() < 0.7 else self.values)

    def ints(self, values: Sequence[int], rank: int = 1) -> str:
        """A constant of integers: an initializer, or a node."""
        name, text = self.name("k"), ", ".join(map(str, values))
        shape = f"[{len(values)}]" if rank else ""
        if self.random.random() < 0.5:
            self.constants.append(f"int64{shape} {name} = {{{text}}}")
        else:
            self.nodes.append(f"{name} = Constant<value = int64{shape} {{{text}}}>()")
        return name

    def make(self, expression: str, dims: Dims) -> str:
        name = self.name("v")
        self.nodes.append(f"{name} = {expression}")
        self.values.append((name, dims))
        return name

    # What a model may do next

    def unary(self) -> None:
        x, dims = self.pick()
        op = self.random.choice(_UNARY)
        self.make(f"CastLike({x}, x)" if op == "CastLike" else f"{op}({x})", dims)

    def with_a_number(self) -> None:
        x, dims = self.pick()
        shapes: list[Dims] = [(), (1,), (1,) * len(dims), (1,) * (len(dims) + 1)]
        if isinstance(dims[-1], int):
            shapes += [(dims[-1],)] * 2
        shape = self.random.choice(shapes)
        count = 1
        for extent in shape:
            count *= int(extent)
        name, value = self.name("k"), self.random.choice(_NUMBERS)
        text = ",".join(map(str, shape))
        self.constants.append(f"float{f'[{text}]' if shape else ''} {name} = {{{', '.join([value] * count)}}}")
        op, reverse = self.random.choice(["Add", "Sub", "Mul", "Div", "Max", "Min"]), self.random.random() < 0.3
        raised = (1,) * (len(shape) - len(dims)) + dims
        self.make(f"{op}({name}, {x})" if reverse else f"{op}({x}, {name})", raised)

    def two_alike(self) -> None:
        x, dims = self.pick()
        z = self.random.choice([name for name, other in self.values if other == dims])
        self.make(f"{self.random.choice(['Add', 'Sub', 'Mul', 'Max'])}({x}, {z})", dims)

    def again(self) -> None:
        """A node once more, under another name."""
        candidates = [(name, dims) for name, dims in self.values if any(n.startswith(f"{name} =") for n in self.nodes)]
        if candidates:
            name, dims = self.random.choice(candidates)
            node = next(node for node in self.nodes if node.startswith(f"{name} ="))
            self.make(node.partition(" = ")[2], dims)

    def transpose(self) -> None:
        x, dims = self.pick()
        order = self.random.sample(range(len(dims)), len(dims))
        self.make(f"Transpose<perm = [{', '.join(map(str, order))}]>({x})", tuple(dims[axis] for axis in order))

    def to_its_own_shape(self) -> None:
        x, dims = self.pick()
        shape = self.name("s")
        self.nodes.append(f"{shape} = Shape({x})")
        self.make(f"{self.random.choice(['Reshape', 'Expand'])}({x}, {shape})", dims)

    def through_another_rank(self) -> None:
        x, dims = self.pick()
        axis = self.random.randint(-len(dims) - 1, len(dims))
        wide = self.name("u")
        self.nodes.append(f"{wide} = Unsqueeze({x}, {self.ints([axis])})")
        self.make(f"Squeeze({wide}, {self.ints([axis])})", dims)

    def by_shape_arithmetic(self) -> None:
        """Reshape to the dims one by one, each gathered from a shape or known."""
        x, dims = self.pick()
        shape = self.name("s")
        self.nodes.append(f"{shape} = Shape({x})")
        parts: list[str] = []
        for axis, dim in enumerate(dims):
            if isinstance(dim, int) and self.random.random() < 0.5:
                parts.append(self.ints([dim]))
                continue
            one, part = self.name("g"), self.name("p")
            self.nodes.append(f"{one} = Gather({shape}, {self.ints([axis - self.random.choice([0, len(dims)])], 0)})")
            self.nodes.append(f"{part} = Unsqueeze({one}, {self.ints([0])})")
            parts.append(part)
        target = self.name("t")
        self.nodes.append(f"{target} = Concat<axis = 0>({', '.join(parts)})")
        self.make(f"Reshape({x}, {target})", dims)

    def slice_of(self) -> None:
        x, dims = self.pick()
        axis = self.random.randrange(len(dims))
        dim = dims[axis]
        whole = self.random.random() < 0.5 or not isinstance(dim, int) or dim < 2
        end = 2**63 - 1 if whole else 1
        bounds = (self.ints([0]), self.ints([end]), self.ints([axis - self.random.choice([0, len(dims)])]))
        self.make(f"Slice({x}, {', '.join(bounds)})", dims if whole else (*dims[:axis], 1, *dims[axis + 1 :]))

    def pad_or_tile(self) -> None:
        x, dims = self.pick()
        if self.random.random() < 0.5:
            self.make(f"Pad({x}, {self.ints([0] * (2 * len(dims)))})", dims)
        else:
            self.make(f"Tile({x}, {self.ints([1] * len(dims))})", dims)

    def size_as_factor(self) -> None:
        x, dims = self.pick()
        shape, one, factor = self.name("s"), self.name("g"), self.name("f")
        index = self.ints([self.random.randrange(len(dims))], 0)
        self.nodes += [f"{shape} = Shape({x})", f"{one} = Gather({shape}, {index})", f"{factor} = Cast<to = 1>({one})"]
        self.make(f"Mul({x}, {factor})", dims)

    def branch(self) -> None:
        """An If whose branches read what lies around them and may give it back as it is."""
        _, dims = self.pick()
        condition = self.random.choice(["c", "on", "off"])
        text = ",".join(f"{letter}{len(self.names)}" for letter in "ABCDEFG"[: len(dims)])
        branches: list[str] = []
        for side in ("then_branch", "else_branch"):
            z = self.random.choice([name for name, other in self.values if other == dims])
            inside, result, graph = self.name("i"), self.name("r"), self.name("b")
            last = self.random.choice(
                [f"Identity({z})", f"Neg({inside})", f"Add({inside}, {z})", f"Identity({inside})"]
            )
            body = f"{inside} = {self.random.choice(['Abs', 'Identity', 'Floor'])}({z})  {result} = {last}"
            branches.append(f"{side} = {graph} () => (float[{text}] {result}) {{ {body} }}")
        self.make(f"If({condition}) <{', '.join(branches)}>", dims)

    def loop(self) -> None:
        """A Loop of none to three rounds that carries one value on and may give it back as it is."""
        x, dims = self.pick()
        z = self.random.choice([name for name, other in self.values if other == dims])
        text = ",".join(f"{letter}{len(self.names)}" for letter in "ABCDEFG"[: len(dims)])
        go, count, on, carried = self.name("j"), self.name("n"), self.name("q"), self.name("h")
        inside, result, graph = self.name("i"), self.name("r"), self.name("b")
        op = self.random.choice(["Abs", "Identity", "Neg"])
        last = self.random.choice([f"Identity({carried})", f"Add({carried}, {inside})", f"Identity({inside})"])
        rounds = self.ints([self.random.randint(0, 3)], 0)
        interface = f"(int64 {count}, bool {go}, float[{text}] {carried}) => (bool {on}, float[{text}] {result})"
        body = f"{graph} {interface} {{ {on} = Identity({go})  {inside} = {op}({z})  {result} = {last} }}"
        self.make(f"Loop({rounds}, {self.random.choice(['on', ''])}, {x}) <body = {body}>", dims)


MOVES: Sequence[Callable[[Writer], None]] = (
    Writer.unary,
    Writer.unary,
    Writer.with_a_number,
    Writer.with_a_number,
    Writer.two_alike,
    Writer.again,
    Writer.transpose,
    Writer.to_its_own_shape,
    Writer.through_another_rank,
    Writer.by_shape_arithmetic,
    Writer.slice_of,
    Writer.pad_or_tile,
    Writer.size_as_factor,
    Writer.branch,
    Writer.loop,
)


def random_model(random: Random, length: int) -> onnx.ModelProto:
    """A model of about so many moves, its outputs any of its values, the inputs among them, some under two names."""
    writer = Writer(random, values=[("x", ("N", 3, 4)), ("z", ("N", 1, 4))])
    for _ in range(length):
        random.choice(MOVES)(writer)
    outputs: list[str] = []
    for index in range(random.randint(1, 4)):
        value, dims = random.choice(writer.values[-6:] if random.random() < 0.8 else writer.values)
        text = f"float[{','.join(map(str, dims))}]"
        if value in {"x", "z"} or random.random() < 0.4 or any(o.endswith(f" {value}") for o in outputs):
            writer.nodes.append(f"o{index} = Identity({value})")
            outputs.append(f"{text} o{index}")
        else:
            outputs.append(f"{text} {value}")
    held = ", ".join(["bool on = {1}", "bool off = {0}", *writer.constants])
    interface = f"g (float[N,3,4] x, float[N,1,4] z, bool c) => ({', '.join(outputs)})"
    return model(f"{interface} <{held}> {{ {'  '.join(writer.nodes)} }}", 18)
