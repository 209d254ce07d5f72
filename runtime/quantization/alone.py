"""What each rounding of a quantized model costs by itself, while all else is float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planish import ir
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.plan import Plan
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
_SHARE = 0.98
"""Of the noise that all make together: the tensors that have it are worth other ranges."""


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
        switches = add_switches(graph, quantizing.plan(graph))
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

    def better(self, costs: Mapping[Switch, float], others: Sequence[Plan]) -> dict[Switch, tuple[Parameters, float]]:
        """For the tensors that cost most, what costs least of all that other plans have for them, and how much."""
        found: dict[Switch, tuple[Parameters, float]] = {}
        worst = _worst({switch: costs[switch] for switch in self.switches.tensors})
        for place, switch in enumerate(worst):
            self.progress(f"choosing a range for {switch.values[0]}", place / len(worst))
            least = costs[switch]
            for other in _distinct(switch, others):
                noise = self.noise({switch: other})
                if noise < least:
                    found[switch], least = (other, noise), noise
        return found


def with_ranges(ranges: Calibration, found: Mapping[Switch, Parameters]) -> Calibration:
    """With the ranges that those codes reach."""
    for switch, chosen in found.items():
        least, largest = chosen.scheme.limits
        scale, zero_point = float(chosen.scale), float(chosen.zero_point)
        for name in switch.values:
            ranges = ranges.with_range(name, (least - zero_point) * scale, (largest - zero_point) * scale)
    return ranges


def _worst(costs: Mapping[Switch, float]) -> list[Switch]:
    """Those that make most of the noise, the worst first."""
    order = sorted(costs, key=lambda switch: -costs[switch])
    left = _SHARE * sum(costs.values())
    kept: list[Switch] = []
    for switch in order:
        if left <= 0:
            break
        kept.append(switch)
        left -= costs[switch]
    return kept


def _distinct(switch: Switch, plans: Sequence[Plan]) -> list[Parameters]:
    """What plans have for a tensor, other than what it is planned with, each once."""
    found: dict[tuple[float, int], Parameters] = {}
    for plan in plans:
        for value, chosen in plan.parameters.items():
            if value.name == switch.values[0]:
                found[float(chosen.scale), int(chosen.zero_point)] = chosen
    if switch.planned is not None:
        found.pop((float(switch.planned.scale), int(switch.planned.zero_point)), None)
    return list(found.values())
