# Jobs of one rule that are ready together, each with a journal, some with a fate: test_slurm_arrays.py runs it.

from pathlib import Path

CELLS = config["cells"].split("-")
LARGE = ["5", "6"]  # ask for more than the others


def memory(wildcards, attempt):
    """Enough to hold Snakemake, and more with every attempt."""
    return attempt * (1200 if wildcards.cell in LARGE else 1000)


rule all:
    input:
        expand("cells/{cell}", cell=CELLS),


localrules:
    all,


rule make_cell:
    output:
        "cells/{cell}",
    log:
        "logs/{cell}.log",
    resources:
        mem_mb=memory,
        runtime=20,
    params:
        bad_data="import sys; from encoder_roles.manifest.retry import renounce; from encoder_roles.study.names"
        " import DataError; sys.exit(renounce(DataError()))",
        siblings=lambda wildcards: [f"cells/{cell}" for cell in ("0", "3", "4")],
    shell:
        """
        mkdir -p journal above
        echo {resources.mem_mb} >>journal/{wildcards.cell}
        process=$$
        while [ "$process" -gt 1 ]; do
            tr '\\0' ' ' </proc/$process/cmdline && echo
            process=$(awk '/^PPid/ {{ print $2 }}' /proc/$process/status)
        done >above/{wildcards.cell}
        env | grep -E '^(SLURM|SRUN|SBATCH)_' >>above/{wildcards.cell}
        fate=fates/{wildcards.cell}
        case $(cat $fate 2>/dev/null) in
            hang)
                mv $fate $fate.met
                exec sleep 600
                ;;
            slow)
                mv $fate $fate.met
                sleep 10
                ;;
            fail)
                until ls {params.siblings} >/dev/null 2>&1; do sleep 0.2; done
                mv $fate $fate.met
                exit 1
                ;;
            bad_data)
                python -c "{params.bad_data}" 2>{log}
                ;;
        esac
        echo {wildcards.cell} >{output}
        """
