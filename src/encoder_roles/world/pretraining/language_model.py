"""The laptop study's language model: a tiny Qwen2 with a word-level tokenizer, pretrained on text alone.

A caption stands where the picture's tokens will be. Eight independent question segments follow it. Each sees
only the caption and itself (block-diagonal mask, positions restart after the caption), and the loss is on
answers and end tokens. Two segments of every row are not about skills. One writes the caption again in
another order: this dense supervision teaches copying by content. The other binds random words to option
letters. The first steps ask only questions without options. The last phase, practice, asks mostly the
questions that the model still answers wrongly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

import encoder_roles.encoders._torchvision  # noqa: F401  # before transformers' models

# isort: split

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from encoder_roles.study.names import BENCHMARKS
from encoder_roles.world import questions as q
from encoder_roles.world.captions import CAPTION_PROMPT, caption
from encoder_roles.world.sampling import Rng, pick, sample_scenes
from encoder_roles.world.scenes import KINDS, Kind, Scene
from encoder_roles.world.skills import NUMBERS

PAD, BOS, EOS, UNK, ANSWER = "<pad>", "<bos>", "<eos>", "<unk>", "<answer>"
SPECIAL = (PAD, BOS, EOS, UNK, ANSWER)
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<bos>{{ message['content'] }}<answer>"
    "{% else %}{{ message['content'] }}<eos>{% endif %}{% endfor %}"
)
# lmms-eval's instructions, one token each; instructions for the same form of answer share a token
INSTRUCTIONS = {
    q.LETTER: "[letter]",
    q.ONLY_LETTER: "[letter]",
    q.SHORT: "[short]",
    q.ONLY_WORD: "[short]",
    q.SINGLE_WORD: "[word]",
    q.INTEGER: "[integer]",
    q.OPTIONS: "[options]",
    q.SELECT: "[options]",
    q.IMAGE_1: "[image]",
    CAPTION_PROMPT: "[describe]",
}
NOTE_PATTERN = r"Note: You only need to respond with [A-D, ]+ without providing any additional information\."

STEPS = 18_000  # about 40 minutes on one thread
POOL_SCENES = 20_000  # training scenes of pretraining; questions and captions about them are drawn anew
# more scenes than in the pictures' mix of the kinds that a language model learns slowly
POOL_MIX: dict[Kind, float] = {"objects": 0.5, "pair": 0.15, "chart": 0.25, "sign": 0.05, "digit": 0.05}
SCENES_PER_STEP = 16
QUESTIONS_PER_SCENE = 6
OPEN_FRACTION = 0.1  # the share of the steps that ask only questions without options
PEAK_RATE, WEIGHT_DECAY, BETAS, CLIP_NORM = 2.5e-3, 0.02, (0.9, 0.95), 1.0
WARMUP_STEPS, DECAY_FRACTION, LAST_RATE = 50, 0.5, 0.02  # the last rate is a share of the peak
PRACTICE_STEPS = 5_000
PRACTICE_RATE = 1.5e-3
WANTED = 3  # questions of a practice row in the format that its scene was chosen for
LEAST_PRACTICE, MEMORY = 0.02, 0.98  # weight of a format without mistakes; decay of the moving averages
LOG_EVERY = 250
IGNORED = -100
Form = tuple[str, str]  # a benchmark, in whose format a skill is asked


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The word-level tokenizer of the world's prompts, captions and answers.

    Articles and marks are dropped, every instruction of lmms-eval is one token, and the letter of an option
    ("A. red", "(A) red") is the token of the answer ("A").
    """
    tokenizer = Tokenizer(WordLevel({UNK: 0}, unk_token=UNK))
    rules = [normalizers.Replace(Regex(NOTE_PATTERN), " [letter] ")]
    rules += [normalizers.Replace(text.strip(), f" {token} ") for text, token in INSTRUCTIONS.items()]
    rules += [normalizers.Replace(Regex(rf"\n\(?{letter}[.)] "), f" {letter} ") for letter in q.LETTERS]
    rules += [
        normalizers.Replace(Regex(r"\b([Tt]he|a)\b"), ""),
        normalizers.Replace(Regex(r"[?.:]"), " "),
        normalizers.Replace(",", " , "),
    ]
    tokenizer.normalizer = normalizers.Sequence(rules)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = sorted({word for text in _texts() for word in _words(tokenizer, text)})
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *words))}
    tokenizer.model = WordLevel(vocabulary, unk_token=UNK)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        additional_special_tokens=[ANSWER],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _texts() -> Iterator[str]:
    """Texts with every word of the world: all benchmarks, captions of all kinds, answers and numbers."""
    for benchmark in BENCHMARKS:
        for question in q.benchmark_questions(benchmark, 0, "train", 300)[1]:
            yield f"{question.prompt} {question.answer}"
    rng = np.random.default_rng(0)
    for scene in sample_scenes(0, "train", None, 1000):
        yield caption(scene, rng)
    yield from (CAPTION_PROMPT, _bind_letter(["x"], 0)[0].replace("x", ""), *NUMBERS, *q.LETTERS)


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    normal = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """A random Qwen2 of about 204,000 parameters: width 64, 4 layers, 2 heads, tied embeddings."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=168,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def encoder_of(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], tuple[int, ...]]:
    """A cached function from text to token ids: most prompts of a training run repeat."""
    backend = tokenizer.backend_tokenizer

    @functools.lru_cache(maxsize=200_000)
    def encode(text: str) -> tuple[int, ...]:
        return tuple(backend.encode(text, add_special_tokens=False).ids)

    return encode


@dataclass(frozen=True)
class Row:
    """One caption (with <bos>) and its question segments: token ids of prompt (with <answer>) and answer."""

    prefix: tuple[int, ...]
    segments: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


def _bind_letter(words: list[str], place: int) -> tuple[str, str]:
    """A question that needs only binding: which letter stands before a word."""
    lines = "\n".join(f"{letter}. {word}" for letter, word in zip(q.LETTERS, words, strict=False))
    return f"Which letter is {words[place]}?\n{lines}{q.LETTER}", q.LETTERS[place]


def draw_row(
    scene: Scene,
    questions: list[tuple[str, str]],
    rng: Rng,
    words: list[str],
    encode: Callable[[str], tuple[int, ...]],
) -> Row:
    """One training row: `questions` about a scene, its caption, and one of `words` to bind to a letter."""
    questions = [*questions, (CAPTION_PROMPT, caption(scene, rng))]
    options = [words[int(i)] for i in rng.permutation(len(words))[: int(rng.integers(2, 5))]]
    questions.append(_bind_letter(options, int(rng.integers(len(options)))))
    answer, end = encode(ANSWER), encode(EOS)
    return Row(
        encode(BOS) + encode(caption(scene, rng)),
        tuple((encode(prompt) + answer, encode(text) + end) for prompt, text in questions),
    )


@dataclass(frozen=True)
class Batch:
    """Packed rows. The tokens of all rows lie flat, one after the other; attention works on padded rows.

    ids, positions, targets: (tokens,), a target being the token after it, within answers only.
    cells: (tokens,) the place of a token in the flattened (rows, length) table.
    bias: (rows, 1, length, length), 0 where a token may look and -inf elsewhere: causally at the prefix
    and at its own segment.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    cells: torch.Tensor
    bias: torch.Tensor


def pack(rows: list[Row]) -> Batch:
    """Rows as one batch; every segment's positions go on where the prefix ended."""
    length = max(len(r.prefix) + sum(len(p) + len(a) for p, a in r.segments) for r in rows)
    ids: list[int] = []
    targets: list[int] = []
    positions, cells = [], []
    owner = np.full((len(rows), length), -1)  # 0 the prefix, k the k-th segment, -1 padding
    for i, row in enumerate(rows):
        place = start = len(row.prefix)
        ids += row.prefix
        targets += [IGNORED] * start
        positions.append(np.arange(start))
        owner[i, :start] = 0
        for k, (prompt, answer) in enumerate(row.segments, 1):
            size = len(prompt) + len(answer)
            ids += prompt + answer
            targets += [IGNORED] * (len(prompt) - 1) + [*answer, IGNORED]
            positions.append(np.arange(start, start + size))
            owner[i, place : place + size] = k
            place += size
        cells.append(np.arange(i * length, i * length + place))
    segments = torch.from_numpy(owner)
    seen, looking = segments[:, None, :], segments[:, :, None]
    allowed = ((seen == looking) | (seen == 0)) & torch.ones(length, length, dtype=torch.bool).tril()
    bias = torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))[:, None]
    flat = (torch.from_numpy(np.concatenate(parts)) for parts in (positions, cells))
    return Batch(torch.tensor(ids), next(flat), torch.tensor(targets), next(flat), bias)


def answer_logits(model: Qwen2ForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (answers' tokens, vocabulary) and targets where the batch has a target.

    It calls the model's modules without work on padding: everything but the attention itself runs on flat
    tokens. A test checks that the result equals the library's forward pass.
    """
    config = model.config
    rows, _, length, _ = batch.bias.shape
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    x = model.model.embed_tokens(batch.ids)
    cos, sin = (
        table[0, :, None] for table in model.model.rotary_emb(x, batch.positions[None])
    )  # (tokens, 1, size)
    table = x.new_zeros(rows * length, 3 * config.hidden_size)
    for layer in model.model.layers:
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        qkv = functional.linear(
            layer.input_layernorm(x), torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
        )
        turned = qkv[:, : 2 * config.hidden_size].view(-1, 2 * heads, size)
        other = torch.cat((-turned[..., size // 2 :], turned[..., : size // 2]), dim=-1)
        turned = (turned * cos + other * sin).flatten(1)
        padded = table.index_copy(
            0, batch.cells, torch.cat((turned, qkv[:, 2 * config.hidden_size :]), dim=1)
        )
        query, key, value = padded.view(rows, length, 3, heads, size).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, batch.bias)
        mixed = mixed.transpose(1, 2).reshape(rows * length, -1)
        x = x + attention.o_proj(mixed.index_select(0, batch.cells))
        mlp, inner = layer.mlp, layer.post_attention_layernorm(x)
        gate, up = functional.linear(inner, torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))).chunk(
            2, -1
        )
        x = x + mlp.down_proj(functional.silu(gate) * up)
    chosen = batch.targets != IGNORED
    return model.lm_head(model.model.norm(x[chosen])), batch.targets[chosen]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up, a plateau, and a cosine down to `LAST_RATE` of the peak over the last part of the steps."""
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    begin = steps * (1 - DECAY_FRACTION)
    progress = max(0.0, (step - begin) / (steps - begin))
    return peak * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))


def build_optimisers(model: Qwen2ForCausalLM) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases.

    Muon's updates are scaled to the size of AdamW's (Liu et al. 2025), so that both share one learning rate.
    """
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return (
        torch.optim.Muon(matrices, lr=PEAK_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=PEAK_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True),
    )


class Mistakes:
    """Moving averages of the wrong answers to each format of each skill; they start at 1.

    Practice draws formats by these weights. So it repeats what a model of this size learns last: answers that
    are two or three steps away from the caption.
    """

    def __init__(self) -> None:
        self.shares: dict[Form, float] = {}

    def draw(self, forms: Sequence[Form], rng: Rng) -> Form:
        """Draw a format; formats with more mistakes are more likely."""
        weights = np.array([LEAST_PRACTICE + self.shares.get(form, 1.0) for form in forms])
        return forms[int(rng.choice(len(forms), p=weights / weights.sum()))]

    def note(self, form: Form, right: bool) -> None:
        """Update the average of a format with one answer."""
        share = self.shares.get(form, 1.0)
        self.shares[form] = MEMORY * share + (1 - MEMORY) * (not right)


class Trainer:
    """A model in training: its scenes, its random numbers, and the step that both phases share."""

    def __init__(
        self, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, phase: int
    ) -> None:
        self.model, self.encode = model.train(), encoder_of(tokenizer)
        self.optimisers = build_optimisers(model)
        self.rng = np.random.default_rng((seed, phase))
        self.pool = sample_scenes(seed, "train", POOL_MIX, POOL_SCENES)
        vocabulary = tokenizer.get_vocab()
        self.words = sorted(word for word in vocabulary if word.isalnum() and word.islower())

    def row(self, scene: Scene, questions: list[tuple[str, str]]) -> Row:
        """A row about a scene."""
        return draw_row(scene, questions, self.rng, self.words, self.encode)

    def step(self, rows: list[Row], rate: float) -> tuple[float, list[bool]]:
        """Update the weights. Returns the loss and, per segment of each row, whether its answer was right."""
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = rate
        logits, targets = answer_logits(self.model, pack(rows))
        loss = functional.cross_entropy(logits, targets)
        self.model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        for optimiser in self.optimisers:
            optimiser.step()
        right = (logits.argmax(-1) == targets).split([len(a) for row in rows for _, a in row.segments])
        return float(loss.detach()), [bool(tokens.all()) for tokens in right]


Each = Callable[[int, float, Qwen2ForCausalLM], None]  # called after every step: step, loss, model


def pretrain(
    tokenizer: PreTrainedTokenizerFast, steps: int, practice_steps: int, seed: int, each: Each
) -> Qwen2ForCausalLM:
    """Pretrain a fresh model: `steps` on all formats equally, then practice on its mistakes."""
    model = build_model(tokenizer, seed)
    ask_evenly(model, tokenizer, steps, seed, each)
    practise(model, tokenizer, practice_steps, seed, lambda step, *rest: each(steps + step, *rest))
    model.eval()
    return model


def ask_evenly(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int, each: Each
) -> None:
    """The first phase: questions in all formats, the first of them open ones only."""
    trainer = Trainer(model, tokenizer, seed, 1)
    for step in range(steps):
        lettered, rows = step >= OPEN_FRACTION * steps, []
        for _ in range(SCENES_PER_STEP):
            scene = pick(trainer.rng, trainer.pool)
            questions = q.training_questions(scene, trainer.rng, QUESTIONS_PER_SCENE, lettered)
            rows.append(trainer.row(scene, questions))
        loss, _ = trainer.step(rows, learning_rate(step, steps, PEAK_RATE))
        each(step, loss, model)


def practise(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int, each: Each
) -> None:
    """The second phase: formats are drawn by how often the model still answers them wrongly.

    A row's scene allows a wanted format, and half of the row's questions use it.
    """
    trainer, mistakes = Trainer(model, tokenizer, seed, 2), Mistakes()
    rng, forms = trainer.rng, {kind: tuple(dict.fromkeys(q.training_forms(kind))) for kind in KINDS}
    possible = [
        form
        for form in dict.fromkeys(form for kind in KINDS for form in forms[kind])
        if any(q.ask_in_form(*form, scene, np.random.default_rng(0)) for scene in trainer.pool)
    ]
    for step in range(steps):
        rows, forms_of_rows = [], []
        for _ in range(SCENES_PER_STEP):
            wanted = mistakes.draw(possible, rng)
            scene = pick(rng, trainer.pool)
            while not q.ask_in_form(*wanted, scene, rng):
                scene = pick(rng, trainer.pool)
            drawn: list[tuple[Form, tuple[str, str]]] = []
            while len(drawn) < QUESTIONS_PER_SCENE:
                form = wanted if len(drawn) < WANTED else mistakes.draw(forms[scene.kind], rng)
                if question := q.ask_in_form(*form, scene, rng):
                    drawn.append((form, question))
            rows.append(trainer.row(scene, [question for _, question in drawn]))
            forms_of_rows.append([form for form, _ in drawn])
        loss, right = trainer.step(rows, learning_rate(step, steps, PRACTICE_RATE))
        answered = iter(right)
        for row, row_forms in zip(rows, forms_of_rows, strict=True):
            answers = list(islice(answered, len(row.segments)))
            for form, is_right in zip(row_forms, answers, strict=False):  # not the last two
                mistakes.note(form, is_right)
        each(step, loss, model)
