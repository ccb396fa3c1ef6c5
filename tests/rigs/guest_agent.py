"""Runs commands in a guest of nfs_machine.py for the test outside. Stdlib only.

usage: guest_agent.py ADDRESS

One TCP connection a command: a line of JSON {"command", "environment", "folder"} comes in; {"pid"} goes out at once and
{"returncode", "output"} when it has ended. The command is killed with all its children when the connection closes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress

PORT = 7000


def serve_one(connection: socket.socket) -> None:
    with connection, connection.makefile("rw") as lines, tempfile.TemporaryFile() as output:
        line = lines.readline()
        if not line:
            return  # somebody looked whether this machine is up
        request = json.loads(line)
        try:
            process = subprocess.Popen(
                request["command"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=request["folder"],
                env={**os.environ, **request["environment"]},
                start_new_session=True,
            )
        except OSError as error:
            _say(lines, {"pid": 0})
            _say(lines, {"returncode": 127, "output": str(error)})
            return
        _say(lines, {"pid": process.pid})
        threading.Thread(target=_kill_when_closed, args=(connection, process), daemon=True).start()
        returncode = process.wait()
        output.seek(0)
        _say(lines, {"returncode": returncode, "output": output.read().decode(errors="replace")})


def _kill_when_closed(connection: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    with suppress(OSError):
        connection.recv(1, socket.MSG_PEEK)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _say(lines: object, message: dict[str, object]) -> None:
    with suppress(OSError, ValueError):
        print(json.dumps(message), file=lines, flush=True)  # type: ignore[call-overload]


def main() -> None:
    with socket.create_server((sys.argv[1], PORT)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
