"""`python -m encoder_roles.evaluation ...`: lmms-eval's command line, beside any build of torch.

With torch and torchvision of one build this is `lmms-eval ...`, letter for letter.
"""

import encoder_roles.encoders._torchvision  # noqa: F401  # first: lmms-eval imports torchvision

from lmms_eval.cli.dispatch import main  # isort: skip

if __name__ == "__main__":
    main()
