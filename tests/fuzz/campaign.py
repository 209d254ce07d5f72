"""Many random models, shared out among worker processes that may die; what failed, and how often each rule fired."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from planish import passes
from planish.passes.manager import RulePass
from tests.fuzz.check import RAW
from tests.fuzz.worker import WORDS, Order, Outcome, follow

REGRESSIONS = Path(__file__).with_name("regressions")
CHUNK = 250
_TIMEOUT_SECONDS = 900.0
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.fuzz.worker"])  # each order forks off what has imported everything


@dataclass
class Campaign:
    """What all workers have found."""

    graphs: int
    seed: int
    only: tuple[str, ...]
    keep: Path
    open: tuple[str, ...] = ()
    """How the kinds of failures begin that are known and not to be told."""
    aims: tuple[str, ...] = ()
    """Passes whose idioms alone models are made of; all moves by default."""
    given: int = 0
    orders: int = 0
    total: Outcome = field(default_factory=Outcome)
    fired: Counter[str] = field(default_factory=Counter[str])
    failures: dict[str, str] = field(default_factory=dict[str, str])
    died: int = 0
    begin: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_order(self) -> Order | None:
        with self.lock:
            graphs = min(CHUNK, self.graphs - self.given)
            if graphs <= 0:
                return None
            self.given += graphs
            self.orders += 1
            known = (*self.open, *self.failures)
            return Order(self.seed * 1_000_003 + self.orders, graphs, self.only, known, self.aims)

    def work(self) -> None:
        """One job: orders until enough graphs are given out."""
        while (order := self.next_order()) is not None:
            with tempfile.TemporaryDirectory() as folder:
                self.take(order, Path(folder))

    def take(self, order: Order, folder: Path) -> None:
        process = _PROCESSES.Process(target=follow, args=(order, folder))
        process.start()
        process.join(_TIMEOUT_SECONDS)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        words = f"no answer after {_TIMEOUT_SECONDS:g} s" if code is None else (folder / WORDS).read_text()[-1500:]
        told = folder / "outcome.json"
        outcome = Outcome(**json.loads(told.read_text())) if told.exists() else Outcome()
        with self.lock:
            self.add(order, outcome)
            if code is not None and code > 0:
                raise SystemExit(f"a worker failed: {words}")
            if code != 0:
                self.dead(folder, words)
            print(self.progress(), file=sys.stderr, flush=True)

    def add(self, order: Order, outcome: Outcome) -> None:
        total = self.total
        total.tried += outcome.tried
        total.refused += outcome.refused
        total.runs += outcome.runs
        self.given -= max(0, order.graphs - outcome.tried)  # a failure ends an order early: others make up for it
        self.fired.update(outcome.fired)
        for kind, count in outcome.known.items():
            total.known[kind] = total.known.get(kind, 0) + count
        if outcome.failure:
            self.fail(outcome.kind, outcome.failure, Path(outcome.model).read_bytes())

    def dead(self, folder: Path, words: str) -> None:
        """A process died: on the model as it came that is ONNX Runtime's own fault, and else ours."""
        self.total.tried += 1
        stage = (folder / "stage.txt").read_text()
        if stage == RAW:
            self.died += 1
        else:
            self.fail(f"{stage} died", f"{stage}: the process died: {words}", (folder / "current.onnx").read_bytes())

    def fail(self, kind: str, failure: str, model: bytes) -> None:
        if kind in self.failures:
            return
        name = re.sub(r"[^a-z0-9]+", "-", kind.lower())[:60].strip("-")
        path = self.keep / f"{name}-{hashlib.sha256(model).hexdigest()[:6]}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model)
        self.failures[kind] = f"{path.name}: {failure}"
        print(f"FAILED {self.failures[kind]}", flush=True)

    def progress(self) -> str:
        total, seconds = self.total, time.monotonic() - self.begin
        return (
            f"{total.tried} graphs, {total.refused} refused, {total.runs} runs, {len(self.failures)} failures, "
            f"{total.tried / seconds:.0f} graphs/s"
        )

    def summary(self) -> Iterator[str]:
        yield self.progress()
        yield f"{self.died} models killed ONNX Runtime as they came, or with noise"
        for name, count in rules_fired(self.fired):
            yield f"{count:8} {name}{'' if count else '    never fired'}"
        for kind, failure in self.failures.items():
            yield f"FAILED {1 + self.total.known.get(kind, 0)} times: {failure}"


def rules_fired(fired: Counter[str]) -> list[tuple[str, int]]:
    """Every rule of every pass, those that fired least at the end."""
    known = {
        f"{name}/{rule.name}": 0
        for name, kind in passes.PASSES.items()
        if issubclass(kind, RulePass) and not kind.lossy
        for rule in kind().rules()
    }
    return sorted((known | dict(fired)).items(), key=lambda entry: (-entry[1], entry[0]))
