"""Runs command lines of Python, each in a fork of this process: importing the SDK takes 2 s of CPU time.

`python interpreter.py`, in the folder and the environment of the command lines. Nothing of this project is imported
before a fork. A line of standard input is a JSON object: `argv` (`-c CODE` or `-m MODULE`, and arguments), `out` and
`err` (files for both outputs). A line of standard output is the exit code.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import sys

import sagemaker.core.workflow.pipeline_context
import sagemaker.mlops.workflow.pipeline
import sagemaker.train.tuner  # noqa: F401 (imported for the forks)


def main() -> None:
    """Serve until standard input ends; in a fork, run its command line."""
    del sys.path[0]  # this file's folder
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if (pid := os.fork()) == 0:
            return run(request["argv"], request["out"], request["err"])
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def run(argv: list[str], out: str, err: str) -> None:
    """Run a command line as the interpreter does."""
    for number, name in enumerate((os.devnull, out, err)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    option, program, *arguments = argv
    sys.argv = [option, *arguments]
    sys.path.insert(0, "")
    if option == "-c":
        exec(program, {"__name__": "__main__"})  # noqa: S102 (the test's own code)
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
