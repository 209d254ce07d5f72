"""Pipelines as text: what is written is what is read, and every mistake is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir import Graph, Node
from planish.passes import PASSES, PIPELINES, format_pipeline, parse
from planish.passes.errors import PipelineError
from planish.passes.fuse.conv_affine import FuseConvAffine
from planish.passes.fuse.conv_bn import FuseConvBn
from planish.passes.fuse.gemm_bn import FuseGemmBn
from planish.passes.manager import Fixpoint, Pass, Stage
from planish.passes.pipelines import parse as parse_with
from planish.passes.run import Run
from planish.passes.simplify.fold_constants import FoldConstants
from planish.passes.simplify.remove_dead_nodes import RemoveDeadNodes


@dataclass(frozen=True)
class Every(Pass):
    """A pass with an option of each kind."""

    name: ClassVar[str] = "every-kind"
    path_to: str = "here"
    count: int = 1
    ratio: float = 0.5
    quiet: bool = False
    mode: Literal["quick", "slow"] = "quick"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Needy(Pass):
    """A pass with an option that has no default."""

    name: ClassVar[str] = "needy"
    ranges: str

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """Does nothing."""


KNOWN: dict[str, type[Pass]] = {"every-kind": Every, "needy": Needy, "remove-dead-nodes": RemoveDeadNodes}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PASS: st.SearchStrategy[Pass] = st.one_of(
    st.builds(
        Every,
        path_to=TEXT,
        count=st.integers(),
        ratio=st.floats(allow_nan=False),
        quiet=st.booleans(),
        mode=st.sampled_from(["quick", "slow"]),
    ),
    st.builds(Needy, ranges=TEXT),
    st.just(RemoveDeadNodes()),
)


def groups(inner: st.SearchStrategy[Stage]) -> st.SearchStrategy[Stage]:
    return st.builds(Fixpoint, st.lists(inner, min_size=1, max_size=3).map(tuple), st.integers(1, 99))


STAGES = st.lists(st.recursive(PASS, groups, max_leaves=5), min_size=1, max_size=4).map(tuple)


@given(STAGES)
def test_what_is_written_is_read_back(stages: tuple[Stage, ...]) -> None:
    text = format_pipeline(stages)
    assert parse_with(text, KNOWN, {}) == stages
    assert format_pipeline(parse_with(text, KNOWN, {})) == text


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_is_read_by_its_name(name: str) -> None:
    (stage,) = parse(name)
    assert isinstance(stage, PASSES[name])
    assert format_pipeline((stage,)) == name


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_is_written_out_and_read_back(name: str) -> None:
    stages = parse(name)
    assert stages == tuple(PIPELINES[name])
    assert parse(format_pipeline(stages)) == stages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fuse-conv-bn", (FuseConvBn(),)),
        (" fuse-conv-bn , fuse-gemm-bn ", (FuseConvBn(), FuseGemmBn())),
        ("fold-constants{growth=7}", (FoldConstants(growth=7),)),
        ("fold-constants{ growth = 7 , read=9 }", (FoldConstants(growth=7, read=9),)),
        ("fold-constants{}", (FoldConstants(),)),
        ("fixpoint(fuse-conv-bn)", (Fixpoint((FuseConvBn(),), 8),)),
        (
            "fixpoint<3>(fuse-conv-bn,fixpoint<1>(fuse-gemm-bn))",
            (Fixpoint((FuseConvBn(), Fixpoint((FuseGemmBn(),), 1)), 3),),
        ),
        ("fuse{only=gemm-bn}", (Fixpoint((FuseGemmBn(),)),) * 2),
        ("fuse{only=conv-bn|fuse-conv-affine}", (Fixpoint((FuseConvBn(), FuseConvAffine())),) * 2),
        ("fuse{only=conv-*,skip=*transpose*|*-bn}", (Fixpoint((FuseConvAffine(),)),) * 2),
    ],
)
def test_texts(text: str, expected: tuple[Stage, ...]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "pipeline '': a pass is missing"),
        ("  ", "a pass is missing"),
        ("fuse-conv-bn,", "a pass is missing"),
        (",fuse-conv-bn", "a pass is missing"),
        ("fuse-conv-bm", "there is no pass 'fuse-conv-bm'; did you mean 'fuse-conv-bn'?"),
        ("zzz", "there is no pass 'zzz'; there are .*fold-constants, .*simplify.*fixpoint"),
        ("fuse-conv-bn fuse-gemm-bn", "'fuse-gemm-bn' is not expected there"),
        ("fuse-conv-bn)", r"'\)' is not expected there"),
        ("fold-constants{growth=many}", "fold-constants takes growth as int, not 'many'"),
        ("fold-constants{growth=1.5}", "fold-constants takes growth as int, not '1.5'"),
        ("fold-constants{growth=}", "fold-constants takes growth as int, not ''"),
        ("fold-constants{groth=1}", "fold-constants has no option 'groth'; it takes growth, read"),
        ("fuse-conv-bn{a=1}", "fuse-conv-bn has no option 'a'; it takes none"),
        ("fold-constants{growth=1,growth=2}", "option 'growth' is given twice"),
        ("fold-constants{growth}", "expected '=' before '}'"),
        ("fold-constants{growth=1", "expected ',' at the end"),
        ("fold-constants{", "expected '=' at the end"),
        ("fixpoint", r"expected '\(' at the end"),
        ("fixpoint(fuse-conv-bn", r"expected '\)' at the end"),
        ("fixpoint<0>(fuse-conv-bn)", "fixpoint<0> needs a number of rounds of at least 1"),
        ("fixpoint<x>(fuse-conv-bn)", "fixpoint<x> needs a number of rounds of at least 1"),
        ("fixpoint<2(fuse-conv-bn)", r"expected '>' before '\('"),
        ("fixpoint()", "a pass is missing"),
        ("fuse{any=conv-bn}", "fuse has no option 'any'; it takes only and skip"),
        ("fuse{only=zzz}", "fuse has no pass left with"),
        ("simplify{skip=*}", "simplify has no pass left with"),
        ('fuse-conv-bn"', "cannot be read from '\"' on"),
    ],
)
def test_mistakes_are_told(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith(f"pipeline {text!r}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("needy", "needy needs the option 'ranges'"),
        ("every-kind{quiet=yes}", "every-kind takes quiet as true or false, not 'yes'"),
        ("every-kind{ratio=half}", "every-kind takes ratio as float, not 'half'"),
        ("every-kind{mode=fast}", "every-kind takes mode as one of quick, slow, not 'fast'"),
    ],
)
def test_mistakes_in_options_of_every_kind(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        parse_with(text, KNOWN, {})


@given(st.text(st.sampled_from('fuse-conv-bn,{}()<>=|*" \\019ä'), max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    """It is read or told; nothing else is raised."""
    try:
        stages = parse(text)
    except PipelineError:
        return
    assert parse(format_pipeline(stages)) == stages
