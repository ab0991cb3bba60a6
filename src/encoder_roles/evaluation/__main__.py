"""`python -m encoder_roles.evaluation ...`: lmms-eval's command line, with any build of torch.

If torch and torchvision are of the same build, it is the same as `lmms-eval ...`.
"""

import encoder_roles.encoders._torchvision  # noqa: F401  # first: lmms-eval imports torchvision

from lmms_eval.cli.dispatch import main  # isort: skip

if __name__ == "__main__":
    main()
