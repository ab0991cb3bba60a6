"""From a question to token ids: training and evaluation render prompts with the same function.

The text comes from the tokenizer's chat template, for the laptop's tiny model as for a real one. Pictures
come before the question, one marker and a newline each, as in LLaVA's preprocessing. The rendered text is cut
at the markers and each piece is tokenised by itself, so that the prefix does not depend on the question. The
answer is tokenised as the text after the generation prompt, where a model writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from encoder_roles.data.llava import IMAGE_MARKER
from encoder_roles.study.names import DataError, StudyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORED = -100  # label of a token that is not learnt
REMEMBERED = 1 << 16  # texts whose ids are cached: those of the procedural world repeat
_QUESTION, _ANSWER = "\x02question\x03", "\x02answer\x03"  # placeholders that no real text contains
# Options of templates: no chain of thought (Qwen3), and a fixed date, because prompts must be reproducible
# (Llama 3's templates write today's date; this one is their default).
TEMPLATE_OPTIONS: dict[str, Any] = {"enable_thinking": False, "date_string": "26 Jul 2024"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question as token ids.

    ``prefix`` has the ids before each picture, one tuple per picture. ``body`` has the ids after the last
    picture. ``labels`` has the id of each body token that is learnt, and IGNORED for the others.
    """

    prefix: tuple[tuple[int, ...], ...]
    body: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def learnt(self) -> int:
        """The number of learnt tokens."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True, slots=True)
class Turn:
    """A chat template's text around one answer.

    Attributes:
        after_question: from the question to the end of the generation prompt.
        before_answer: directly before the answer.
        after_answer: from the answer to the next question, the end token included.
    """

    after_question: str
    before_answer: str
    after_answer: str


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """A chat template's text around a conversation.

    Attributes:
        pieces: the text before each picture, then the text before the first question.
        turns: the text around each answer.
    """

    pieces: list[str]
    turns: list[Turn]


class PromptRenderer:
    """Renders prompts with one tokenizer; the template runs once per number of pictures and turns."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        if not tokenizer.chat_template:
            raise StudyError(f"{tokenizer.name_or_path}: the tokenizer has no chat template")
        if tokenizer.eos_token is None:
            raise StudyError(f"{tokenizer.name_or_path}: the tokenizer has no end token")
        if "strftime_now" in tokenizer.chat_template and "date_string" not in tokenizer.chat_template:
            raise StudyError(
                f"{tokenizer.name_or_path}: the chat template writes today's date, so prompts would "
                "differ from day to day; set language_model.chat_template to one without a date"
            )
        self.tokenizer = tokenizer
        self.eos: str = tokenizer.eos_token
        self.unknown = tokenizer.unk_token_id
        self._frames: dict[tuple[int, int], ChatFrame] = {}
        self._ids: dict[str, tuple[int, ...]] = {}

    def _frame(self, images: int, turns: int) -> ChatFrame:
        """The template's text around the turns of a conversation about `images` pictures."""
        conversation: list[dict[str, str]] = []
        for turn in range(turns):
            pictures = f"{IMAGE_MARKER}\n" * images if turn == 0 else ""
            conversation.append({"role": "user", "content": pictures + _QUESTION})
            conversation.append({"role": "assistant", "content": _ANSWER})
        render: Callable[..., Any] = partial(
            self.tokenizer.apply_chat_template, tokenize=False, **TEMPLATE_OPTIONS
        )
        begun = self._begun(str(render(conversation[:-1], add_generation_prompt=True)))
        answered = self._begun(str(render(conversation)))
        counts = {begun.count(_QUESTION), answered.count(_ANSWER), answered.count(_QUESTION)}
        if not answered.startswith(begun) or counts != {turns}:
            raise StudyError(
                f"{self.tokenizer.name_or_path}: the chat template does not write question, generation "
                "prompt and answer once each and in this order"
            )
        before, *parts = answered.split(_QUESTION)
        pieces = before.split(f"{IMAGE_MARKER}\n")
        # only the last turn has a generation prompt
        between = [Turn(part.split(_ANSWER)[0], "", part.split(_ANSWER)[1]) for part in parts[:-1]]
        before_answer, after_answer = answered.removeprefix(begun).split(_ANSWER)
        last = Turn(begun.split(_QUESTION)[-1], before_answer, after_answer)
        ended = all(self.eos in turn.after_answer for turn in (*between, last))
        if len(pieces) != images + 1 or before_answer.strip() or not ended:
            raise StudyError(
                f"{self.tokenizer.name_or_path}: the chat template must keep {IMAGE_MARKER} as it is, answer "
                f"right after the generation prompt and end the answer with {self.eos!r}"
            )
        return ChatFrame(pieces, [*between, last])

    def _begun(self, text: str) -> str:
        """The template's text, with the beginning token once if the tokenizer would add it."""
        bos = self.tokenizer.bos_token
        if bos is None:
            return text
        if text.startswith(bos + bos):
            raise StudyError(f"{self.tokenizer.name_or_path}: the chat template begins with {bos!r} twice")
        begins = self.tokenizer.backend_tokenizer.encode("", add_special_tokens=True).ids[:1]
        missing = begins == [self.tokenizer.bos_token_id] and not text.startswith(bos)
        return bos + text if missing else text

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a piece of text, without the special tokens that the tokenizer adds."""
        ids = self._ids.get(text)
        if ids is None:
            if len(self._ids) >= REMEMBERED:
                self._ids.clear()
            # the backend, because the call of transformers around it doubles the time
            encoding = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
            ids = self._ids[text] = tuple(encoding.ids)
        return ids

    def _continued(self, before: str, text: str) -> tuple[int, ...]:
        """Token ids of a text that follows another; no token spans both texts."""
        start, joined = self.ids(before), self.ids(before + text)
        return joined[len(start) :] if joined[: len(start)] == start else self.ids(text)

    def render(self, question: str, answer: str | None = None, images: int = 1) -> Prompt:
        """A question after ``images`` pictures, with its answer (training) or up to its start (evaluation).

        Image markers inside the question are removed: pictures come before the text, in order. Raises
        StudyError if no token of an answer can be learnt, or the tokenizer has no token for one of its words.
        """
        return self.render_turns([(question, answer)], images)

    def render_turns(self, turns: Sequence[tuple[str, str | None]], images: int = 1) -> Prompt:
        """A conversation of questions and answers after ``images`` pictures; see `render`.

        All answers are learnt, each with its end token.
        """
        key = (images, len(turns))
        if key not in self._frames:
            self._frames[key] = self._frame(*key)
        frame = self._frames[key]
        body: tuple[int, ...] = ()
        labels: tuple[int, ...] = ()
        before = frame.pieces[-1]
        for (question, answer), turn in zip(turns, frame.turns, strict=True):
            text = question.replace(IMAGE_MARKER, "").strip()
            prompt = self.ids(before + text + turn.after_question)
            # a newline after the end token is never generated, so it is not learnt
            end, _, between = turn.after_answer.partition(self.eos)
            learnt: tuple[int, ...] = ()
            if answer is not None:
                written = turn.before_answer + answer.strip() + end + self.eos
                learnt = self._continued(turn.after_question, written)
            self._check(question, answer, learnt)
            body += prompt + learnt
            labels += (IGNORED,) * len(prompt) + learnt
            before = between
        return Prompt(tuple(self.ids(piece) for piece in frame.pieces[:-1]), body, labels)

    def _check(self, question: str, answer: str | None, learnt: tuple[int, ...]) -> None:
        if answer is not None and (not answer.strip() or not learnt):
            raise DataError(f"question {question!r}: no token of its answer {answer!r} is learnt")
        if self.unknown is not None and self.unknown in learnt:
            raise DataError(
                f"question {question!r}: its answer {answer!r} has words that the tokenizer does not know"
            )


def fit_prompt(prompt: Prompt, longest: int, visual_tokens: int, cut: bool) -> Prompt:
    """The prompt, no longer than the language model reads.

    Args:
        prompt: of a conversation with its answers.
        longest: the most tokens that the language model reads, visual tokens included.
        visual_tokens: visual tokens per picture.
        cut: whether a longer conversation is truncated, as in LLaVA's training; otherwise it is an error.

    Raises:
        DataError: it is too long, or nothing to learn is left of it.
    """
    before = sum(len(ids) + visual_tokens for ids in prompt.prefix)
    if before + len(prompt.body) <= longest:
        return prompt
    if not cut:
        raise DataError(
            f"a conversation has {before + len(prompt.body)} tokens, the language model reads at most "
            f"{longest}; set training.max_tokens to truncate longer ones"
        )
    room = max(0, longest - before)
    short = replace(prompt, body=prompt.body[:room], labels=prompt.labels[:room])
    if not short.learnt:
        raise DataError(f"its first answer begins after token {longest}, where it is truncated")
    return short


def longest_conversation(config: Any, max_tokens: int | None) -> int:
    """The most tokens of a conversation: what a language model of this transformers config reads, or less."""
    longest = int(config.get_text_config().max_position_embeddings)
    return longest if max_tokens is None else min(longest, max_tokens)


def render(
    tokenizer: PreTrainedTokenizerFast, question: str, answer: str | None = None, images: int = 1
) -> Prompt:
    """`PromptRenderer.render` for one question; for many, keep a renderer."""
    return PromptRenderer(tokenizer).render(question, answer, images)
