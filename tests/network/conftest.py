"""Commands of networks run in the process of their tests: to import PyTorch takes longer than most of them do."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

import pytest

from edge.cli import run_command


@pytest.fixture(scope="session")
def foilsight() -> Callable[..., CompletedProcess[str]]:
    """Run the command line; tells what a process of its own would have told."""

    def run(*arguments: object) -> CompletedProcess[str]:
        given = [str(argument) for argument in arguments]
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(io.StringIO()) as out,
            redirect_stderr(io.StringIO()) as err,
        ):
            patch.setattr(sys, "argv", ["foilsight", *given])
            code = run_command(given)
        return CompletedProcess(given, code, out.getvalue(), err.getvalue())

    return run
