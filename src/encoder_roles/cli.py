"""`encoder-roles <command>`: every rule of the workflow calls one command, and each is one function.

A command's module is imported only when that command runs, so that a job loads only what it uses. A
StudyError ends the command with its one line and exit code 1. Any other exception is a fault of this package
and keeps its traceback.
"""

from __future__ import annotations

import ast
import difflib
import gc
import importlib
import importlib.metadata
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

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
    "measure-pretrained-ranks": "encoder_roles.effective_rank.measure:measure_pretrained_ranks",
    "measure-ranks": "encoder_roles.effective_rank.measure:measure_ranks",
    "collect-ranks": "encoder_roles.effective_rank.tables:collect_ranks",
    "export-model": "encoder_roles.evaluation.export:export_model",
    "chat": "encoder_roles.evaluation.chat:chat",
    "score-predictions": "encoder_roles.evaluation.score:score_predictions",
    "assign-roles": "encoder_roles.analysis.commands:assign_roles",
    "analyse-scores": "encoder_roles.analysis.external.scores:analyse_scores",
    "measure-skills": "encoder_roles.analysis.skills:measure_skills",
    "replay-advisor": "encoder_roles.analysis.advisor.commands:replay_advisor",
    "advise": "encoder_roles.analysis.advisor.commands:advise_next",
    "compare-variants": "encoder_roles.analysis.claims.variant_claims:compare_variants",
    "build-paper": "encoder_roles.paper.build:build_paper",
    "preflight": "encoder_roles.cluster.preflight:preflight",
    "cancel-orphans": "encoder_roles.cluster.orphans:cancel_orphans",
    "await-orphans": "encoder_roles.cluster.orphans:await_orphans",
    "locate-results": "encoder_roles.paper.locate:locate_results",
    "write-manifest": "encoder_roles.manifest.write:write_manifest",
    "verify": "encoder_roles.manifest.verify:verify",
    "compare-runs": "encoder_roles.manifest.compare:compare_runs",
    "check-environment": "encoder_roles.manifest.environment:check_environment",
}

# the commands that people call themselves, by what for; Snakemake calls the others
CALLED_BY_HAND: dict[str, tuple[str, ...]] = {
    "use a model": ("chat", "export-model"),
    "analyse scores": ("analyse-scores", "advise"),
    "run a study": (
        "check-environment",
        "preflight",
        "cancel-orphans",
        "await-orphans",
        "locate-results",
        "verify",
        "compare-runs",
    ),
}
STEPS = tuple(name for name in COMMANDS if name not in itertools.chain(*CALLED_BY_HAND.values()))
GROUPS = CALLED_BY_HAND | {"steps of the workflow, which Snakemake calls": STEPS}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; its options are the function's parameters (`encoder-roles <command> --help`)."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text())
    elif argv[0] == "--version":
        print(f"encoder-roles {importlib.metadata.version('encoder-roles')}")
    elif argv[0] in COMMANDS:
        if arguments is None and WARM_VARIABLE in os.environ:  # a process of its own, with a warm parent
            from encoder_roles.warm_start.job import hand_over

            hand_over(COMMANDS[argv[0]].partition(":")[0])  # does not return if the parent runs the command
        run(argv[0], argv[1:])
    else:
        near = difflib.get_close_matches(argv[0], COMMANDS, n=3)
        question = f"did you mean {' or '.join(near)}? " if near else ""
        sys.exit(
            f"encoder-roles: unknown command {argv[0]!r}; {question}`encoder-roles --help` lists the commands"
        )


def help_text() -> str:
    """The commands by group, a line each."""
    width = max(map(len, COMMANDS))
    lines = ["usage: encoder-roles <command> [options]", "       encoder-roles <command> --help"]
    for group, names in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<{width}}  {summary(COMMANDS[name])}" for name in names)]
    return "\n".join(lines)


def summary(target: str) -> str:
    """The first sentence of a command's docstring, read from its source: importing takes seconds."""
    module, function = target.split(":")
    source = Path(__file__).parents[1] / f"{module.replace('.', '/')}.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            paragraph = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            return paragraph.partition(". ")[0].partition("; ")[0].partition(": ")[0].rstrip(".")
    raise LookupError(f"{target}: no such function")


def run(name: str, options: Sequence[str]) -> None:
    """Run the command `name` with its options."""
    import tyro

    from encoder_roles.manifest.job import announce
    from encoder_roles.manifest.retry import renounce
    from encoder_roles.study.names import StudyError

    module, function = COMMANDS[name].split(":")
    if not module.startswith("encoder_roles.manifest."):  # these read results and make none
        try:
            announce(name, module)
        except StudyError as error:
            sys.exit(f"encoder-roles {name}: {error}")
    gc.disable()  # imported objects stay: collecting garbage among them costs time for nothing
    command = getattr(importlib.import_module(module), function)
    gc.freeze()
    gc.enable()
    try:
        tyro.cli(command, prog=f"encoder-roles {name}", args=list(options))
    except StudyError as error:
        if line := renounce(error):
            print(line, file=sys.stderr)
        sys.exit(f"encoder-roles {name}: {error}")


if __name__ == "__main__":
    main()
