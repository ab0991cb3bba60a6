"""From a question to token ids: the one function that training and evaluation render prompts with.

The tokenizer's own chat template writes the text, so the laptop's tiny model and a real one take the same
path. Pictures stand before the text, one marker and a newline each, as LLaVA's preprocessing has it; the
rendered text is cut at the markers and each piece is tokenised by itself, so that the prefix does not depend
on the question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from encoder_roles.data.llava import IMAGE_MARKER
from encoder_roles.study import StudyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORED = -100  # label of a token that is not learnt
REMEMBERED = 1 << 16  # texts whose ids are kept: a world's repeat, a real data set's do not
_QUESTION, _ANSWER = "\x02question\x03", "\x02answer\x03"  # stand-ins no real text holds


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question as token ids.

    ``prefix`` holds the ids before each picture (one tuple a picture; empty without pictures), ``body`` the
    ids after the last picture, and ``labels`` the body's ids where they are learnt and IGNORED elsewhere.
    """

    prefix: tuple[tuple[int, ...], ...]
    body: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def learnt(self) -> int:
        """How many tokens are learnt."""
        return sum(label != IGNORED for label in self.labels)


class PromptRenderer:
    """Renders prompts with one tokenizer; the chat template runs once for each shape."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        if not tokenizer.chat_template:
            raise StudyError(f"{tokenizer.name_or_path}: the tokenizer has no chat template")
        if tokenizer.eos_token is None:
            raise StudyError(f"{tokenizer.name_or_path}: the tokenizer has no end token")
        self.tokenizer = tokenizer
        self.eos: str = tokenizer.eos_token
        self.unknown = tokenizer.unk_token_id
        self._frames: dict[tuple[int, int], tuple[list[str], list[str], list[str]]] = {}
        self._ids: dict[str, tuple[int, ...]] = {}

    def _frame(self, images: int, turns: int) -> tuple[list[str], list[str], list[str]]:
        """The template's text before each picture (and the first question), after each question, and after
        each answer (before the next question).
        """
        conversation: list[dict[str, str]] = []
        for turn in range(turns):
            pictures = f"{IMAGE_MARKER}\n" * images if turn == 0 else ""
            conversation.append({"role": "user", "content": pictures + _QUESTION})
            conversation.append({"role": "assistant", "content": _ANSWER})
        render: Callable[..., Any] = self.tokenizer.apply_chat_template
        asked = str(render(conversation[:-1], tokenize=False, add_generation_prompt=True))
        answered = str(render(conversation, tokenize=False))
        if (
            not answered.startswith(asked)
            or asked.count(_QUESTION) != turns
            or answered.count(_ANSWER) != turns
        ):
            raise StudyError(
                f"{self.tokenizer.name_or_path}: the chat template does not write question, generation "
                "prompt and answer once each and in this order"
            )
        before, *parts = answered.split(_QUESTION)
        pieces = before.split(f"{IMAGE_MARKER}\n")
        after_questions = [part.split(_ANSWER)[0] for part in parts[:-1]]
        after_questions.append(asked.split(_QUESTION)[-1])
        after_answers = [part.split(_ANSWER)[-1] for part in parts[:-1]]
        before_answer, after_answer = answered.removeprefix(asked).split(_ANSWER)
        after_answers.append(after_answer)
        if (
            len(pieces) != images + 1
            or before_answer.strip()
            or any(self.eos not in after for after in after_answers)
        ):
            raise StudyError(
                f"{self.tokenizer.name_or_path}: the chat template must keep {IMAGE_MARKER} as it is, answer "
                f"right after the generation prompt and end the answer with {self.eos!r}"
            )
        return pieces, after_questions, after_answers

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a piece of text, without special tokens of the tokenizer's own making."""
        found = self._ids.get(text)
        if found is None:
            if len(self._ids) >= REMEMBERED:
                self._ids.clear()
            # The tokenizer proper: transformers' call around it takes twice as long as the work.
            encoding = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
            found = self._ids[text] = tuple(encoding.ids)
        return found

    def render(self, question: str, answer: str | None = None, images: int = 1) -> Prompt:
        """A question behind ``images`` pictures, with its answer (training) or up to its start (evaluation).

        Image markers inside the question are dropped: pictures stand before the text, in order. Raises
        StudyError if there is an answer and no token of it can be learnt, or the tokenizer does not know one
        of its words.
        """
        return self.render_turns([(question, answer)], images)

    def render_turns(self, turns: Sequence[tuple[str, str | None]], images: int = 1) -> Prompt:
        """A conversation of questions and answers behind ``images`` pictures; see `render`. All answers are
        learnt, each with its end token.
        """
        key = (images, len(turns))
        if key not in self._frames:
            self._frames[key] = self._frame(*key)
        pieces, after_questions, after_answers = self._frames[key]
        body: tuple[int, ...] = ()
        labels: tuple[int, ...] = ()
        before = pieces[-1]
        for (question, answer), after_question, after in zip(
            turns, after_questions, after_answers, strict=True
        ):
            text = question.replace(IMAGE_MARKER, "").strip()
            # A newline a template writes after the end token is never generated, so it is never learnt.
            end, _, between = after.partition(self.eos)
            asked = self.ids(before + text + after_question)
            learnt = () if answer is None else self.ids(answer.strip() + end + self.eos)
            self._check(question, answer, learnt)
            body += asked + learnt
            labels += (IGNORED,) * len(asked) + learnt
            before = between
        return Prompt(tuple(self.ids(piece) for piece in pieces[:-1]), body, labels)

    def _check(self, question: str, answer: str | None, learnt: tuple[int, ...]) -> None:
        if answer is not None and (not answer.strip() or not learnt):
            raise StudyError(f"question {question!r}: no token of its answer {answer!r} is learnt")
        if self.unknown is not None and self.unknown in learnt:
            raise StudyError(
                f"question {question!r}: its answer {answer!r} has words the tokenizer does not know"
            )


def render(
    tokenizer: PreTrainedTokenizerFast, question: str, answer: str | None = None, images: int = 1
) -> Prompt:
    """`PromptRenderer.render` for one question; keep a renderer where there are many."""
    return PromptRenderer(tokenizer).render(question, answer, images)
