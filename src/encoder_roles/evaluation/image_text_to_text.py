"""Any image-and-text model of transformers in lmms-eval, by the name `image_text_to_text`.

lmms-eval 0.7.3 has classes for single families (llava_hf, qwen2_5_vl ...). Its general one, `huggingface`,
compares a model's type with the classes of configurations, and so loads models that cannot generate.
"""

from __future__ import annotations

from typing import Any

import torch

import encoder_roles.encoders._transformers  # noqa: F401  # must come before transformers and lmms-eval

# isort: split

from lmms_eval.api.model import lmms
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor

from encoder_roles.encoders.compute import choose_device, dtype_of
from encoder_roles.evaluation.adapter import check_greedy
from encoder_roles.study.names import StudyError

NAME = "image_text_to_text"


class ImageTextToText(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """A model of transformers' AutoModelForImageTextToText; it answers greedily, one question at a time.

    Args:
        pretrained: a folder or a repository of a hub, with the model and its processor.
        revision: of the repository.
        device: cpu, cuda or cuda:N; a GPU, if the machine has any, by default.
        precision: of the weights: fp32 or bf16.

    Raises:
        StudyError: there is no such device or precision.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        revision: str = "main",
        device: str | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        chosen = choose_device(device)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            pretrained, revision=revision, dtype=dtype_of(precision)
        )
        self.model = model.to(chosen).eval()
        self.processor = AutoProcessor.from_pretrained(pretrained, revision=revision)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The greedy answer to every request, up to its limit of tokens."""
        return [self._answer(*request.args) for request in tqdm(requests, desc=NAME, disable=None)]

    def _answer(self, _: str, messages: Any, options: dict[str, Any], doc: int, task: str, split: str) -> str:
        check_greedy(task, options)
        turns = messages(self.task_dict[task][split][doc])
        parts = [part for turn in turns for part in turn["content"]]
        pictures = [part["url"] for part in parts if part["type"] == "image"]
        text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs = self.processor(text=[text], images=pictures or None, return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)
        with torch.inference_mode():
            ids = self.model.generate(
                **inputs, do_sample=False, max_new_tokens=int(options["max_new_tokens"])
            )
        fresh = ids[0, inputs["input_ids"].shape[1] :]
        return str(self.processor.decode(fresh, skip_special_tokens=True))

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Raises StudyError: likelihoods are not supported."""
        raise StudyError(f"{NAME} generates answers: task {requests[0].task_name} asks for likelihoods")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Raises StudyError: rounds are not supported."""
        raise StudyError(f"{NAME} answers one question: task {requests[0].task_name} asks in rounds")
