"""What every command shares: --profile, --json and -v, before or after its name, and a client made from them."""

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tools.output import ExitCode, Output
from watchword.profile import Profile, load_profile

if TYPE_CHECKING:
    from watchword.client import Client

PROFILE_VARIABLE = "WATCHWORD_PROFILE"
PROFILE_DEFAULT = Path(".watchword/client.toml")

Function = TypeVar("Function", bound=Callable[..., Any])

ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help=f"Connection profile. Otherwise ${PROFILE_VARIABLE}, otherwise ./{PROFILE_DEFAULT}.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer, or fail, with one JSON object.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Show the trace of an error.")]


@dataclass(frozen=True, slots=True)
class Common:
    """The shared options, as far as they have been read."""

    profile: Path | None = None
    as_json: bool = False
    verbose: bool = False

    def then(self, profile: Path | None, as_json: bool, verbose: bool) -> "Common":
        """What stands nearer to the command's end counts."""
        return Common(profile or self.profile, as_json or self.as_json, verbose or self.verbose)


class Session:
    """One run of one command."""

    def __init__(self, common: Common) -> None:
        self.output = Output(common.as_json, common.verbose)
        self._profile = common.profile

    def profile(self) -> Profile:
        named = os.environ.get(PROFILE_VARIABLE)
        return load_profile(self._profile or (Path(named) if named else PROFILE_DEFAULT))

    def client(self, *, endpoint: str | None = None, timeout_s: float | None = None) -> "Client":
        from watchword.client import TIMEOUT_S, Client

        profile = self.profile() if endpoint is None else self.profile().at(endpoint)
        return Client(profile, timeout_s=TIMEOUT_S if timeout_s is None else timeout_s)


def paragraphs(text: str) -> str:
    """The same, each paragraph in one line, so that it is broken where the terminal ends; examples keep their shape."""
    parts = (part if part.startswith(" ") else " ".join(part.split()) for part in text.strip().split("\n\n"))
    return "\n\n".join(parts)


def common_callback(context: typer.Context, profile: Path | None, as_json: bool, verbose: bool) -> None:
    """For a group: keeps what stands before the command's name."""
    before = context.obj if isinstance(context.obj, Common) else Common()
    context.obj = before.then(profile, as_json, verbose)


def group(name: str, help: str, *, outermost: bool = False) -> typer.Typer:  # noqa: A002  # typer's word
    """A group of commands, which takes the shared options before their names too; the outermost one, completion."""
    app = typer.Typer(name=name, help=paragraphs(help), add_completion=outermost)

    @app.callback()
    def callback(
        context: typer.Context,
        profile: ProfileOption = None,
        as_json: JsonOption = False,
        verbose: VerboseOption = False,
    ) -> None:
        common_callback(context, profile, as_json, verbose)

    return app


def command(app: typer.Typer, name: str) -> Callable[[Function], Function]:
    """Makes a function the command `name` of `app`: it gets a session, and the shared options are added to its own.

    It may be a coroutine.  What it returns is the exit code; what it raises, `tools.main` says.
    """

    def register(function: Function) -> Function:
        def run(context: typer.Context, **given: Any) -> None:
            before = context.obj if isinstance(context.obj, Common) else Common()
            common = before.then(given.pop("profile"), given.pop("as_json"), given.pop("verbose"))
            try:
                code = function(Session(common), **given)
                if inspect.iscoroutine(code):
                    import asyncio

                    code = asyncio.run(code)
                sys.stdout.flush()
            except BrokenPipeError:
                # Nobody reads the answer.  What could not be said is neither 0 nor 1, whatever was decided.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                code = ExitCode.UNEXPECTED
            raise typer.Exit(int(code))

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter("context", keyword, annotation=typer.Context),
            *(parameter.replace(kind=keyword) for parameter in own),
            inspect.Parameter("profile", keyword, default=None, annotation=ProfileOption),
            inspect.Parameter("as_json", keyword, default=False, annotation=JsonOption),
            inspect.Parameter("verbose", keyword, default=False, annotation=VerboseOption),
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, help=paragraphs(inspect.getdoc(function) or ""))(run)
        return function

    return register
