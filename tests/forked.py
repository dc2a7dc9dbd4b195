"""Processes that begin with torch and opcount imported: forked from one that did nothing else.

Importing torch and opcount takes seconds, which a test that needs a process of its own would pay for each. What is
forked ends as any interpreter does: it returns from its main module, joins threads and calls what ``atexit`` knows.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_WORD = 8
"""Bytes of a number that the server sends."""


class Server:
    """Process that forks others.

    Args:
        environment: Of the process; variables that Python reads when it starts are those of each fork, too.
        options: Of Python.
    """

    def __init__(self, environment: dict[str, str], *options: str) -> None:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, *options, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        theirs.close()

    def run(
        self,
        arguments: list[str],
        *,
        env: dict[str, str],
        cwd: Path,
        program: str = "",
        text_input: str = "",
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Return what ``python -m opcount``, or a program in its place, printed and how it ended."""
        with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as stdin:
            pickle.dump((arguments, env, str(cwd), program), request)
            stdin.write(text_input.encode())
            request.seek(0)
            stdin.seek(0)
            with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
                files = [file.fileno() for file in (request, stdin, stdout, stderr)]
                socket.send_fds(self._socket, [b"."], files)
                self._socket.settimeout(timeout)
                pid = self._number()
                try:
                    status = self._number()
                except TimeoutError:
                    os.kill(pid, 9)
                    raise
                stdout.seek(0)
                stderr.seek(0)
                return subprocess.CompletedProcess(
                    arguments, os.waitstatus_to_exitcode(status), stdout.read().decode(), stderr.read().decode()
                )

    def _number(self) -> int:
        data = self._socket.recv(_WORD, socket.MSG_WAITALL)
        assert data, "the server has died"
        return int.from_bytes(data, "little")

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.wait(60)


def _serve(connection: socket.socket) -> tuple[list[int], bool]:
    """Fork for each request: return in the children, with the files that were sent; return none at the end."""
    while True:
        message, files, _, _ = socket.recv_fds(connection, 1, 4)
        if not message:
            return [], False
        with warnings.catch_warnings():  # Python 3.12 and later say so of threads, of which libraries have idle ones
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            return files, True
        for file in files:
            os.close(file)
        connection.sendall(pid.to_bytes(_WORD, "little"))
        connection.sendall(os.waitpid(pid, 0)[1].to_bytes(_WORD, "little"))


def _become(request: int, *streams: int) -> str:
    """Take directory, environment, arguments and standard streams of a request; return its program."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    with open(request, "rb") as file:
        arguments, environment, folder, program = pickle.load(file)  # noqa: S301  (our own)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = [opcount.__main__.__file__, *arguments]
    return program


if __name__ == "__main__":
    import gc

    import opcount.__main__
    import opcount.cli.count
    import opcount.cli.program

    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as _connection:
        _files, _is_fork = _serve(_connection)
    if _is_fork:
        _program = _become(*_files)
        del _connection, _files, _is_fork
        if not _program:
            sys.exit(opcount.cli.run())
        exec(compile(_program, "<stdin>", "exec", dont_inherit=True))  # noqa: S102  (of our tests)
