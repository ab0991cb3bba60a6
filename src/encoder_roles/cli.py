"""`encoder-roles <command>`: every rule of the workflow calls one command, and each is one function.

A command's options are read from its source, and its module is imported only when the command runs: help
costs no second, and a job loads only what it uses. A StudyError ends the command with its one line and exit
code 1. Any other exception is a fault of this package and keeps its traceback.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import difflib
import functools
import gc
import importlib
import importlib.metadata
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from encoder_roles.warm_start import WARM_VARIABLE

# command -> module:function, in the order of the DAG
COMMANDS: dict[str, str] = {
    "plan-study": "encoder_roles.planning.plan:plan_study",
    "pretrain-encoder": "encoder_roles.world.pretraining.commands:pretrain_encoder",
    "pretrain-language-model": "encoder_roles.world.pretraining.language_commands:pretrain_language_model",
    "gate-language-model": "encoder_roles.world.pretraining.language_commands:gate_language_model",
    "check-gates": "encoder_roles.world.gates:check_gates",
    "lock-sources": "encoder_roles.sources.lock:lock_sources",
    "fetch-source": "encoder_roles.sources.fetch:fetch_source",
    "fetch-benchmark": "encoder_roles.sources.fetch:fetch_benchmark",
    "convert-checkpoint": "encoder_roles.sources.convert_checkpoint:convert_checkpoint",
    "stage-records": "encoder_roles.sources.records:stage_records",
    "make-world": "encoder_roles.world.build:make_world",
    "write-requests": "encoder_roles.evaluation.requests:write_requests",
    "stage-encoder": "encoder_roles.sources.stage_encoder:stage_encoder",
    "stage-language-model": "encoder_roles.sources.stage_language_model:stage_language_model",
    "frame-pictures": "encoder_roles.data.frame_pictures:frame_pictures",
    "extract-features": "encoder_roles.data.features:extract_features",
    "train-align": "encoder_roles.training.align:train_align",
    "train-tune": "encoder_roles.training.tune:train_tune",
    "collect-costs": "encoder_roles.training.costs:collect_costs",
    "measure-convergence": "encoder_roles.analysis.convergence:measure_convergence",
    "predict-subset": "encoder_roles.evaluation.predict:predict_subset",
    "predict-masks": "encoder_roles.evaluation.predict:predict_masks",
    "predict-checkpoint": "encoder_roles.evaluation.predict_checkpoint:predict_checkpoint",
    "mask-checkpoint": "encoder_roles.evaluation.mask_checkpoint:mask_checkpoint",
    "measure-pretrained-ranks": "encoder_roles.effective_rank.measure:measure_pretrained_ranks",
    "measure-ranks": "encoder_roles.effective_rank.measure:measure_ranks",
    "collect-ranks": "encoder_roles.effective_rank.tables:collect_ranks",
    "export-model": "encoder_roles.evaluation.export:export_model",
    "chat": "encoder_roles.evaluation.chat:chat",
    "score-predictions": "encoder_roles.evaluation.score:score_predictions",
    "assign-roles": "encoder_roles.analysis.commands:assign_roles",
    "analyse-scores": "encoder_roles.paper.external_report:analyse_scores",
    "measure-skills": "encoder_roles.analysis.skills:measure_skills",
    "replay-advisor": "encoder_roles.analysis.advisor.commands:replay_advisor",
    "advise": "encoder_roles.analysis.advisor.commands:advise_next",
    "compare-variants": "encoder_roles.analysis.claims.variant_claims:compare_variants",
    "paper": "encoder_roles.paper.run:make_paper",
    "build-paper": "encoder_roles.paper.build:build_paper",
    "rehearse": "encoder_roles.rehearsal.rehearse:rehearse",
    "rehearse-step": "encoder_roles.rehearsal.step:rehearse_step",
    "preflight": "encoder_roles.cluster.preflight:preflight",
    "cancel-orphans": "encoder_roles.cluster.orphans:cancel_orphans",
    "await-orphans": "encoder_roles.cluster.orphans:await_orphans",
    "status": "encoder_roles.planning.status:status",
    "locate-results": "encoder_roles.paper.locate:locate_results",
    "write-manifest": "encoder_roles.manifest.write:write_manifest",
    "verify": "encoder_roles.manifest.verify:verify",
    "repair": "encoder_roles.manifest.repair:repair",
    "compare-studies": "encoder_roles.analysis.compare:compare_studies",
    "compare-runs": "encoder_roles.manifest.compare:compare_runs",
    "check-environment": "encoder_roles.manifest.environment:check_environment",
}

# the commands that people call themselves, by what for; Snakemake calls the others
CALLED_BY_HAND: dict[str, tuple[str, ...]] = {
    "use a model": ("chat", "export-model", "mask-checkpoint"),
    "analyse scores": ("analyse-scores", "advise", "compare-studies"),
    "run a study": (
        "paper",
        "check-environment",
        "convert-checkpoint",
        "rehearse",
        "preflight",
        "cancel-orphans",
        "await-orphans",
        "status",
        "locate-results",
        "verify",
        "repair",
        "compare-runs",
    ),
}
STEPS = tuple(name for name in COMMANDS if name not in itertools.chain(*CALLED_BY_HAND.values()))
GROUPS = CALLED_BY_HAND | {"steps of the workflow, which Snakemake calls": STEPS}


INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended

# options with a new name: command -> old -> the message
RENAMED = {"chat": {"--masks": "--keep, because it names the encoders that stay"}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; its options are the function's parameters (`encoder-roles <command> --help`)."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    with unread_output_dropped():
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(help_text())
        elif argv[0] == "--version":
            print(f"encoder-roles {importlib.metadata.version('encoder-roles')}")
        elif argv[0] in COMMANDS:
            if arguments is None and WARM_VARIABLE in os.environ:  # a process of its own, with a warm parent
                from encoder_roles.warm_start.job import hand_over

                hand_over(COMMANDS[argv[0]].partition(":")[0])  # does not return if the parent runs it
            run(argv[0], argv[1:])
        else:
            sys.exit(f"encoder-roles: {unknown(argv[0])}")


def unknown(name: str) -> str:
    """What is said of a command that there is not."""
    near = difflib.get_close_matches(name, COMMANDS, n=3)
    question = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown command {name!r}; {question}`encoder-roles --help` lists the commands"


@contextlib.contextmanager
def unread_output_dropped() -> Iterator[None]:
    """Within the block, the reader of the output, such as `head`, may leave when it has seen enough."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error.__context__, SystemExit):  # the exit code was chosen before
            raise error.__context__ from None


def help_text() -> str:
    """The commands by group, a line each."""
    width = max(map(len, COMMANDS))
    lines = ["usage: encoder-roles <command> [options]", "       encoder-roles <command> --help"]
    for group, names in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<{width}}  {summary(COMMANDS[name])}" for name in names)]
    return "\n".join(lines)


def summary(target: str) -> str:
    """The first sentence of a command's docstring, read from its source: importing takes seconds."""
    paragraph = " ".join((ast.get_docstring(_definition(target)) or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].partition("; ")[0].partition(": ")[0].rstrip(".")


@functools.cache
def _parsed(module: str) -> ast.Module:
    """The source of a module of this package."""
    source = Path(__file__).parents[1] / module.replace(".", "/")
    file = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _definition(target: str) -> ast.FunctionDef:
    """The definition of a command's function."""
    module, function = target.split(":")
    for node in _parsed(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return node
    raise LookupError(f"{target}: no such function")


def _value(module: str, name: str) -> Any:
    """What a name of a module means: a constant by its source, without importing the module if possible."""
    for node in _parsed(module).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if name != (alias.asname or alias.name):
                    continue
                if node.module.startswith("encoder_roles."):
                    return _value(node.module, alias.name)
                return getattr(importlib.import_module(node.module), alias.name)
        if isinstance(node, ast.Assign) and name in {t.id for t in node.targets if isinstance(t, ast.Name)}:
            return _evaluate(module, node.value)
    return getattr(importlib.import_module(module), name)


def _evaluate(module: str, node: ast.expr) -> Any:
    """The value of an expression in a module's source: an annotation, a default, a constant."""
    names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    scope = {name: _value(module, name) for name in names if not hasattr(builtins, name)}
    return eval(compile(ast.Expression(node), module, "eval"), scope)  # noqa: S307 - own source


def _parameter(
    module: str, argument: ast.arg, kind: Any, default: ast.expr | None = None
) -> inspect.Parameter:
    """A parameter of a function of a module, from its source."""
    if argument.annotation is None:
        raise LookupError(f"{module}: parameter {argument.arg} has no type")
    value = inspect.Parameter.empty if default is None else _evaluate(module, default)
    annotation = _evaluate(module, argument.annotation)
    return inspect.Parameter(argument.arg, kind, default=value, annotation=annotation)


def options_of(target: str) -> Callable[..., dict[str, Any]]:
    """A function with the signature and docstring of a command's, which returns its arguments by name."""
    module, definition = target.partition(":")[0], _definition(target)
    given = definition.args
    parameters = [_parameter(module, each, inspect.Parameter.POSITIONAL_ONLY) for each in given.posonlyargs]
    parameters += [
        _parameter(module, each, inspect.Parameter.KEYWORD_ONLY, default)
        for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    signature = inspect.Signature(parameters)

    def options(*values: Any, **named: Any) -> dict[str, Any]:
        bound = signature.bind(*values, **named)
        bound.apply_defaults()
        return bound.arguments

    options.__name__, options.__doc__ = definition.name, ast.get_docstring(definition)
    options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    options.__signature__ = signature  # type: ignore[attr-defined]
    return options


def run(name: str, options: Sequence[str]) -> None:
    """Run the command `name` with its options."""
    import tyro

    from encoder_roles.manifest.job import announce, announce_files
    from encoder_roles.manifest.retry import renounce
    from encoder_roles.study.names import StudyError

    for old, new in RENAMED.get(name, {}).items():
        if any(option.partition("=")[0] == old for option in options):
            sys.exit(f"encoder-roles {name}: {old} is now {new}")
    stand_in = options_of(COMMANDS[name])
    values = tyro.cli(stand_in, prog=f"encoder-roles {name}", args=list(options))
    module, function = COMMANDS[name].split(":")
    if not module.startswith("encoder_roles.manifest."):  # these read results and make none
        try:
            announce(name, module)
        except StudyError as error:
            sys.exit(f"encoder-roles {name}: {error}")
    gc.disable()  # imported objects stay: collecting garbage among them costs time for nothing
    try:
        command = getattr(importlib.import_module(module), function)
        gc.freeze()
        gc.enable()
        parameters = inspect.signature(stand_in).parameters.values()
        unnamed = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        command(*(values.pop(name) for name in unnamed), **values)
        announce_files()
    except KeyboardInterrupt:
        print(f"encoder-roles {name}: stopped; the same command starts it again", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except StudyError as error:
        if line := renounce(error):
            print(line, file=sys.stderr)
        sys.exit(f"encoder-roles {name}: {error}")
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("encoder_roles"):
            raise
        sys.exit(f"encoder-roles {name}: {how_to_get(error.name)}")


def how_to_get(module: str) -> str:
    """Where a missing module comes from: the wheel's own dependencies hold neither torch nor Snakemake."""
    if module.startswith("snakemake_"):
        return f"{module} is not here: run this in a checkout of the project, with its .venv (see README)"
    return f"the package {module.partition('.')[0]} is not installed: pip install 'encoder-roles[all]'"


if __name__ == "__main__":
    main()
