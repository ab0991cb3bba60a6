"""`encoder-roles <command>`: every rule of the workflow is one of these; each is one function of the package.

A command's module is imported only when that command runs, so that a job starts with what it uses and nothing
else. A StudyError ends the command with its one line and exit code 1; any other exception keeps its
traceback, because it is a fault of ours.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence

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
    "extract-features": "encoder_roles.data.features:extract_features",
    "train-align": "encoder_roles.training.align:train_align",
    "train-tune": "encoder_roles.training.tune:train_tune",
    "collect-costs": "encoder_roles.training.costs:collect_costs",
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; its options are the function's parameters (`encoder-roles <command> --help`)."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if not argv or argv[0] not in COMMANDS:
        known = "\n  ".join(COMMANDS)
        sys.exit(f"usage: encoder-roles <command> --help\ncommands:\n  {known}")
    module, function = COMMANDS[argv[0]].split(":")
    if arguments is None and WARM_VARIABLE in os.environ:  # a process of its own, in a run with a warm parent
        from encoder_roles.warm_start.job import hand_over

        hand_over(module)  # does not return if the parent runs the command
    import tyro

    from encoder_roles.manifest.job import announce
    from encoder_roles.study.names import StudyError

    if not module.startswith("encoder_roles.manifest."):  # these look at results and make none
        try:
            announce(argv[0], module)
        except StudyError as error:
            sys.exit(f"encoder-roles {argv[0]}: {error}")
    gc.disable()  # what imports make stays: no use in looking for garbage among it
    command = getattr(importlib.import_module(module), function)
    gc.freeze()
    gc.enable()
    try:
        tyro.cli(command, prog=f"encoder-roles {argv[0]}", args=argv[1:])
    except StudyError as error:
        sys.exit(f"encoder-roles {argv[0]}: {error}")


if __name__ == "__main__":
    main()
