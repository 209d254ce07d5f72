"""What each rounding of a quantized model costs by itself, while all else is float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planish import ir
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.passes.quantize.scheme import Parameters
from planish.runtime.fidelity import References
from planish.runtime.progress import Progress
from planish.runtime.quantization.coding_switches import Switch, Switches, add_switches
from planish.runtime.quantization.trials import Trials
from planish.runtime.samples import Feeds
from planish.runtime.session import Result, Session

_SPARSE = 4
"""Every so many of the references tell how much a rounding costs: noise is no matter of a few samples."""


@dataclass(frozen=True)
class Rounded:
    """A model whose roundings are switched on one by one."""

    switches: Switches
    session: Session
    references: References
    progress: Progress

    @staticmethod
    def of(trials: Trials, quantizing: QuantizeStatic) -> Rounded:
        """Of what the pass would round, on a few of the references."""
        graph = trials.graph()
        known = quantizing.ranges if quantizing.rounding == "gram" else None
        switches = add_switches(graph, quantizing.plan(graph), {} if known is None else known.grams)
        path = trials.folder / "switched.onnx"
        ir.save(graph, path)
        every = trials.references
        few = References(every.feeds[::_SPARSE], every.outputs[::_SPARSE])
        return Rounded(switches, Session(path, trials.target), few, trials.progress)

    def noise(self, on: Mapping[Switch, Parameters | None]) -> float:
        """Of the outputs, with those roundings."""
        more = self.switches.feeds(on)

        def run(feeds: Feeds) -> Sequence[Result]:
            return self.session.run({**feeds, **more})

        return self.references.fidelity_of(run).noise

    def each(self) -> dict[Switch, float]:
        """The noise of every rounding alone."""
        every = (*self.switches.tensors, *self.switches.weights)
        found: dict[Switch, float] = {}
        for place, switch in enumerate(every):
            self.progress(f"how much {switch.values[0]} costs", place / len(every))
            found[switch] = self.noise({switch: None})
        return found
