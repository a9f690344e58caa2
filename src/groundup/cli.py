"""The command line: one command per verb, made from the verbs' own signatures."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from groundup import terminal, workflow
from groundup.core.errors import GroundupError, nearest
from groundup.explain import Catalogue, Explanation, explain, list_parts

if TYPE_CHECKING:
    from cyclopts import App

VERBS: Mapping[str, Callable[..., Any]] = {
    "run": workflow.run,
    "train": workflow.train,
    "finetune": workflow.finetune,
    "evaluate": workflow.evaluate,
    "predict": workflow.predict,
    "check": workflow.check,
    "show": workflow.show,
    "plan": workflow.plan,
    "labels": workflow.labels,
    "clean": workflow.clean,
    "new": workflow.new,
    "inspect": workflow.inspect,
    "diff": workflow.diff,
    "undo": workflow.undo,
    "fetch": workflow.fetch,
    "convert": workflow.convert,
    "explain": explain,
    "list": list_parts,
}
"""What is typed -> the function that is called, in the order of the help."""

MEANINGS = {
    "recipe": "A recipe: a .toml file, or a .py file with a line 'recipe = Recipe(...)'.",
    "run": "The folder of a run, such as runs/digits-001.",
    "evaluate run": "The folder of a run, such as runs/digits-001; or a recipe that starts from weights.",
    "overrides": "Fields of the recipe set anew: dotted.path=value, such as training.optimizer.lr=1e-4.",
    "inputs": "Raw inputs: a text, an image file, a CSV file, a row. After -- they may look like options.",
    "out": "The run's folder; by default the next free one in runs/.",
    "runner": "Who works on data that do not fit in memory: local, processes, or ray.",
    "memory": "What data may take in memory, such as 2GB, beside the libraries; by default half of what is free.",
    "record": "Write down what each step changes, for undo; by default for small data that fit in memory.",
    "clean out": "The folder for the cleaned data; by default cleaned/NAME.",
    "new out": "The recipe's file; by default NAME.toml here. An existing one is never overwritten.",
    "inspect out": "The page's file; by default NAME.html here.",
    "diff out": "A JSON file for all that was found.",
    "undo out": "The folder that the data are given back in; by default CLEANED-before-N.",
    "cleaned": "A folder that groundup clean wrote.",
    "before": "The number or name of a step; without it, everything is undone.",
    "data": "A table, a folder of images, a text or a folder of texts; for inspect also a recipe or a run.",
    "target": "The column to be predicted.",
    "first": "The version before: a file, a folder of cleaned data, a run or a recipe.",
    "second": "The version after.",
    "key": "Columns that name each row once, with commas between; by default they are looked for.",
    "resume": "The folder of a run that was stopped, instead of a recipe: go on from its newest checkpoint.",
    "name": "A layer, loss, optimizer, metric, step, ..., or an import path package.module:Name.",
    "by": "What answers for rows that it has not seen: logistic_regression, or recipe for the recipe's own model.",
    "into": "A file for all that is found, as JSON lines.",
    "fetch name": "A published model: org/name, such as Qwen/Qwen3-0.6B.",
    "fetch out": "The model's folder; by default models/NAME.",
    "revision": "A branch, tag or commit of it; by default its main branch.",
    "file": "The foreign weights: a file that torch wrote, or safetensors.",
    "model": "What they are for: a model's name with arguments, a recipe, or a folder with a config.json.",
    "convert overrides": "The named model's arguments, such as depth=20; for a recipe, its fields set anew.",
    "convert out": "The folder to be written; by default models/NAME.",
    "mapping": "A mapping file, as was proposed and looked over: theirs = ours, and what is unused.",
    "slot": "One place in a recipe, such as optimizer; without it, every place is listed.",
}
"""What each word of a command line is, "VERB WORD" for one verb alone. What is not here is given from Python alone."""

PLACES = {
    "target": "COLUMN",
    "key": "COLUMNS",
    "before": "STEP",
    "by": "MODEL",
    "revision": "REVISION",
    "mapping": "FILE",
    "into": "FILE",
    "runner": "RUNNER",
    "memory": "SIZE",
    "new out": "FILE",
    "inspect out": "FILE",
    "diff out": "FILE",
}
"""What stands for the value of an option in a usage line; a folder where nothing else is said."""

USAGE_ERROR, DIFFERENT, INTERRUPTED = 2, 3, 130


class UsageError(Exception):
    """A command line that no verb understands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line and give its exit status.

    0; 1 for an error in what was asked; 2 for a wrong command line; 3 when two versions of data differ; 130 when
    interrupted. Errors are one message on stderr; with GROUNDUP_TRACEBACK=1 they come with their traceback.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Threads that wait for one another spin for a moment only: on a machine that does anything else, long spinning
    # costs many times what sleeping does (LOG.md has the figures). OpenMP reads this when torch is loaded, later.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # what a person names lies where they stand, as for python -m
    try:
        return _carry_out(arguments)
    except UsageError as error:
        print(f"{_red('error:')} {error}\n{_usage_of(arguments)}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt as interrupt:
        said = getattr(interrupt, "__notes__", None) or _how_to_resume(arguments)
        print("\ninterrupted.", *said, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (GroundupError, OSError) as error:
        if os.environ.get("GROUNDUP_TRACEBACK") == "1":
            raise
        print(f"{_red('error:')} {error}", file=sys.stderr)
        return 1
    except Exception as error:
        place = _own_place(error)
        if place is None or os.environ.get("GROUNDUP_TRACEBACK") == "1":  # a fault of ours keeps its traceback
            raise
        print(f"{_red('error:')} {place}: {type(error).__name__}: {error}", file=sys.stderr)
        print("The whole way there: set GROUNDUP_TRACEBACK=1 and run it again.", file=sys.stderr)
        return 1


def _carry_out(arguments: Sequence[str]) -> int:
    from cyclopts import CycloptsError

    _refuse_unknown_options(arguments)
    try:
        result = _app()(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UsageError(str(error)) from error
    _show(result)
    sys.stdout.flush()
    return DIFFERENT if getattr(result, "differs", False) else 0


def _app() -> App:
    from cyclopts import App

    from groundup import __version__

    app = App(
        name="groundup",
        help="Neural networks from raw data to something fine-tuned, evaluated and served.",
        version=__version__,
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for place, (name, verb) in enumerate(VERBS.items()):
        app.command(_command(verb), name=name, help=_help(verb), usage=_usage(name), sort_key=place)
    return app


def _help(verb: Callable[..., Any]) -> str:
    """The docstring without its example and markup, each paragraph on one line."""
    paragraphs = (inspect.getdoc(verb) or "").partition(">>>")[0].replace("``", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).strip()


def _command(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with the part of its signature that a command line can give, and what each word means."""
    from cyclopts import Parameter

    @functools.wraps(verb)
    def command(*words: Any, **options: Any) -> Any:
        if verb is workflow.train and bool(words) == ("resume" in options):
            raise UsageError("name a recipe to start from, or a run to go on with by --resume: one of the two.")
        if verb is workflow.predict and len(words) < 2:
            raise UsageError("name at least one input.")
        return verb(*words, **options)

    parameters = []
    for parameter in _words(verb):
        meaning = Parameter(
            help=_said(MEANINGS, verb, parameter.name, ""),
            allow_leading_hyphen=parameter.name == "inputs",  # a row may begin with a negative number
            show_default=False,
        )
        kind: Any = bool if _is_flag(parameter) else Path if "Path" in str(parameter.annotation) else str
        kind = kind | None if parameter.default is None else kind
        positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        parameters.append(
            parameter.replace(
                annotation=Annotated[kind, meaning], kind=parameter.POSITIONAL_ONLY if positional else parameter.kind
            )
        )
    given: Any = command
    del given.__wrapped__
    given.__signature__ = inspect.Signature(parameters)
    given.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _words(verb: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters that can be words on a command line."""
    return [p for p in inspect.signature(verb).parameters.values() if p.name in MEANINGS]


def _said(table: Mapping[str, str], verb: Callable[..., Any], word: str, otherwise: str) -> str:
    """What a table says of a word of this verb, or of the word wherever it stands."""
    return table.get(f"{verb.__name__} {word}", table.get(word, otherwise))


def _is_flag(parameter: inspect.Parameter) -> bool:
    return "bool" in str(parameter.annotation)


def _options(verb: Callable[..., Any]) -> set[str]:
    options = [p for p in _words(verb) if p.kind is p.KEYWORD_ONLY]
    return {f"--{p.name}" for p in options} | {f"--no-{p.name}" for p in options if _is_flag(p)}


def _usage(name: str) -> str:
    words = [f"groundup {name}"]
    for parameter in _words(VERBS[name]):
        shown = parameter.name.upper()
        if parameter.kind is parameter.VAR_POSITIONAL:
            words.append(f"[{shown.removesuffix('S')} ...]")
        elif _is_flag(parameter):
            words.append(f"[--{parameter.name} | --no-{parameter.name}]")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            place = _said(PLACES, VERBS[name], parameter.name, "FOLDER")
            words.append(f"[--{parameter.name} {place}]")
        else:
            words.append(shown if parameter.default is parameter.empty else f"[{shown}]")
    return " ".join(words)


def _usage_of(arguments: Sequence[str]) -> str:
    verb = arguments[0] if arguments and arguments[0] in VERBS else ""
    usage = _usage(verb) if verb else f"groundup {{{','.join(VERBS)}}} ..."
    return f"usage: {usage}\nmore:  groundup {verb + ' ' if verb else ''}--help"


def _refuse_unknown_options(arguments: Sequence[str]) -> None:
    """An input may begin with dashes, so a misspelt option would pass for one."""
    known = {"--help", "--version"}.union(*(_options(verb) for verb in VERBS.values()))
    for argument in itertools.takewhile(lambda argument: argument != "--", arguments):
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            raise UsageError(f"there is no option {name}.{nearest(name, known)} Behind -- everything is an input.")


def _own_place(error: Exception) -> str | None:
    """File and line of the user's code that raised an error, or could not be read as Python; None if it was ours."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    ours = str(Path(__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if "site-packages" not in f.filename and not f.filename.startswith((ours, sys.base_prefix))
    ]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else None


def _how_to_resume(arguments: Sequence[str]) -> list[str]:
    """The run that was going on is the newest one; without a checkpoint there is nothing to go on from."""
    if not arguments or arguments[0] not in ("run", "train"):
        return []
    named = [after for word, after in itertools.pairwise(arguments) if word in ("--out", "--resume")]
    runs = sorted(Path("runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    folder = Path(named[0]) if named else runs[-1].parent if runs else Path()
    if (folder / "finetune" / "run.json").is_file() and not (folder / "finetune" / "report.json").is_file():
        return [f"To go on with its fine-tuning: groundup finetune {folder}"]
    kept = (*folder.glob("checkpoints/step-*/manifest.json"), *folder.glob("*-*/checkpoints/step-*/manifest.json"))
    if folder == Path() or not kept:
        return ["No checkpoint was written yet."]
    return [f"To go on from its newest checkpoint: groundup train --resume {folder}"]


def _red(text: str) -> str:
    return f"\033[1;31m{text}\033[0m" if sys.stderr.isatty() and "NO_COLOR" not in os.environ else text


def _show(result: Any) -> None:
    """What a verb gives back and has not shown itself: an explanation, a list of parts, predictions as JSON lines."""
    if isinstance(result, Explanation):
        print(result)
    elif isinstance(result, Catalogue):
        _show_catalogue(result)
    elif isinstance(result, list):
        for prediction in result:
            print(json.dumps(prediction, ensure_ascii=False))


def _show_catalogue(catalogue: Catalogue) -> None:
    for slot, names in catalogue.slots.items():
        rows = list(names.items())
        if slot in catalogue.also:
            rows.append(("...", f"and all of {', '.join(catalogue.also[slot])}"))
        terminal.table((slot, ""), rows)


if __name__ == "__main__":
    sys.exit(main())
