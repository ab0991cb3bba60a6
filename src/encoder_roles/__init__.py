"""What each vision encoder of a multi-encoder vision-language model contributes.

After `import encoder_roles`, transformers' AutoConfig and AutoModel know the models of this package.
"""

from encoder_roles import _auto

_auto.register()
