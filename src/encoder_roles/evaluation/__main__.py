"""`python -m encoder_roles.evaluation ...`: lmms-eval's command line, with any build of torch.

`--study results/<study>` adds tasks with the study's own data (`evaluation.lmms_command`).
"""

import sys

from encoder_roles.evaluation.lmms_command import run

if __name__ == "__main__":
    run(sys.argv[1:])
