"""A process of its own that answers requests, one at a time: what crashes or hangs there takes nobody along.

Requests and replies are pickles behind their length, on the pipes between a process and its own child.
"""

import gc
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, BinaryIO, TypeVar, cast

from planish.runtime.errors import SessionError

_END = object()
_LENGTH = struct.Struct(">Q")
_SIGKILL = 9
_Request = TypeVar("_Request")


@dataclass(frozen=True)
class _Failure:
    message: str


def serve(answer: Callable[[_Request], object], settle: Callable[[], None] = lambda: None) -> None:
    """The child's side: answers requests on standard input until it closes; a SessionError is answered as a failure.

    settle: called before each reply goes out.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    gc.disable()  # no collection in the middle of a run
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the replies
    _write(replies, None)
    while (request := _read(sys.stdin.buffer)) is not _END:
        try:
            reply = answer(cast("_Request", request))
        except SessionError as error:
            reply = _Failure(str(error))
        settle()
        _write(replies, reply)


class Child:
    """The parent's side: starts the process, asks, and always ends it.

    Raises:
        SessionError: in every method: the child reports a failure, dies, or does not answer within `timeout_seconds`.
    """

    def __init__(self, module: str, subject: str, timeout_seconds: float) -> None:
        """`module` has a main() that serves; `subject` says in errors what the child runs."""
        self.subject = subject
        self._timeout = timeout_seconds
        self._replies: queue.Queue[object] = queue.Queue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by _reap
        command = [sys.executable, "-P", "-c", f"from {module} import main; main()"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError as error:
            self._errors.close()
            raise SessionError(f"cannot start a process to run {subject} in: {error}") from error
        stream = cast("BinaryIO", self._process.stdout)
        reader = threading.Thread(target=_receive, args=(stream, self._replies), daemon=True)
        reader.start()
        self._finalizer = weakref.finalize(self, _reap, self._process, reader, self._errors)
        self._reply()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._finalizer.alive

    def close(self) -> None:
        """Kills the child and collects it; happens by itself when this is dropped or the interpreter ends."""
        self._finalizer()

    def ask(self, request: object) -> object:
        """The child's answer; a child that died or hung is closed."""
        try:
            _write(cast("BinaryIO", self._process.stdin), request)
        except OSError as error:
            raise self._died() from error
        return self._reply()

    def _reply(self) -> object:
        try:
            reply = self._replies.get(timeout=self._timeout)
        except queue.Empty:
            self.close()
            raise SessionError(
                f"the process that runs {self.subject} did not answer within {self._timeout:g} s and was ended: "
                "allow a longer timeout, or look for an operator that hangs"
            ) from None
        if reply is _END:
            raise self._died()
        if isinstance(reply, _Failure):
            raise SessionError(reply.message)
        return reply

    def _died(self) -> SessionError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self.close()
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        words = f": {lines[-1].strip()}" if lines else ", and said nothing"
        memory = "; is there enough memory for it?" if code == -_SIGKILL else ""
        return SessionError(f"the process that runs {self.subject} ended with {how}{words}{memory}")


def _write(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream: IO[bytes]) -> object:
    """_END at the end of the stream, cut off or not."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return _END
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size)
    return pickle.loads(data) if len(data) == size else _END


def _receive(stream: IO[bytes], replies: "queue.Queue[object]") -> None:
    """The thread's work: a queue can be read with a timeout on every system, a pipe cannot."""
    while (reply := _read(stream)) is not _END:
        replies.put(reply)
    replies.put(_END)


def _reap(process: "subprocess.Popen[bytes]", reader: threading.Thread, errors: IO[bytes]) -> None:
    process.kill()
    process.wait()
    reader.join()
    for stream in (process.stdin, process.stdout, errors):
        if stream is not None:
            try:
                stream.close()
            except OSError:
                continue  # what was left in the buffer has no reader any more
