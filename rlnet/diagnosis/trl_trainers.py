"""Exact expected updates of TRL's trainers, from their own advantages and losses on all groups of completions.

`GRPOTrainer`, `RLOOTrainer` and `DPOTrainer` of TRL are called as a library: only what they generate, or the pairs
that they learn from, is handed to them. The policy is a Llama over two symbols and the end token, with another one as
reference; the task that of `tokens_nano`, with short completions so that groups are few.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet import algos
from rlnet.compare.completions import Completions
from rlnet.diagnosis.enumeration import Texts, multisets, probability_of
from rlnet.diagnosis.estimator import Estimator
from rlnet.envs import make, preset

PROMPTS = ["0", "1"]


class Models:
    """A policy and a reference over the tokens of the task, and what is exact about them.

    Args:
        group: completions of a prompt that are compared with each other.
        beta: the weight of the divergence from the reference.
        length: the most tokens of a completion, its end included.
    """

    def __init__(self, group: int = 4, beta: float = 0.3, length: int = 2) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        self.group, self.beta, self.length = group, beta, length
        self.environment = make(preset("tokens_nano", prompts=PROMPTS, length=length))
        assert self.environment.tokens is not None
        assert self.environment.mdp is not None
        self.tokens, self.mdp = self.environment.tokens, self.environment.mdp
        size: dict[str, Any] = {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "attn_implementation": "eager",
        }
        self.settings = LlamaConfig(
            vocab_size=3, intermediate_size=24, max_position_embeddings=64, bos_token_id=None, eos_token_id=2,
            pad_token_id=2, initializer_range=0.5, **size,
        )  # fmt: skip
        made = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            made.append(LlamaForCausalLM(self.settings).double())
        self.policy, self.reference = made
        # The prompt and the symbols are tokens 0 and 1; nothing stands before them.
        rows = self.tokens.rows
        assert rows is not None
        self.texts = [row[1:][row[1:] >= 0].tolist() for row in rows]
        with torch.no_grad():
            self.log_reference = self.scores(self.reference).log_softmax(-1)
            self.log_policy = self.scores(self.policy).log_softmax(-1)
        self.known = Completions(self.mdp, self.tokens.shape, self.log_reference.numpy())

    def scores(self, model: Any) -> Tensor:
        """The logits of every state: [S, 3]."""
        return torch.stack([model(input_ids=torch.tensor([text])).logits[0, -1] for text in self.texts])

    def carried(self, by_logits: Tensor) -> Tensor:
        """A gradient by logits as one by the parameters of the policy."""
        found = torch.autograd.grad(self.scores(self.policy), list(self.policy.parameters()), by_logits)
        return torch.cat([x.flatten() for x in found])


def tokenizer_of(symbols: str) -> Any:
    """A tokenizer with one token for each character, and behind them the one that ends a completion."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {symbol: k for k, symbol in enumerate(symbols)} | {"<end>": len(symbols)}
    words = Tokenizer(models.WordLevel(known, unk_token="<end>"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")


def trainer_of(models: Models, kind: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """A trainer of TRL on the policy and the reference, in double precision, and its model."""
    import trl
    from datasets import Dataset

    task, prompts = models.tokens.task, list(models.tokens.task.prompts)

    def rewarded(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [task.reward(p, c.replace(" ", "")) for p, c in zip(prompts, completions, strict=True)]

    rows: dict[str, list[str]] = {"prompt": prompts}
    common: dict[str, Any] = {"beta": models.beta, "per_device_train_batch_size": models.group, **options}
    more: dict[str, Any] = {}
    if kind == "DPOTrainer":
        rows |= dict.fromkeys(("chosen", "rejected"), ["0"] * len(prompts))
    else:
        common |= {"num_generations": models.group, "max_completion_length": models.length}
        more["reward_funcs"] = rewarded
    config, trainer_class = getattr(trl, kind.replace("Trainer", "Config")), getattr(trl, kind)
    with tempfile.TemporaryDirectory() as folder:
        models.policy.save_pretrained(folder)
        arguments = config(
            output_dir=folder, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, **common
        )
        trainer = trainer_class(
            model=folder, args=arguments, processing_class=tokenizer_of("01"), train_dataset=Dataset.from_dict(rows),
            **more,
        )  # fmt: skip
    model = trainer.accelerator.unwrap_model(trainer.model).double()
    model.load_state_dict(models.policy.state_dict())
    model.train()
    if trainer.ref_model is not None:
        reference = trainer.accelerator.unwrap_model(trainer.ref_model).double()
        reference.load_state_dict(models.reference.state_dict())
    trainer.current_gradient_accumulation_steps = 1
    return trainer, model


def expected_update(models: Models, kind: str, options: dict[str, Any]) -> Tensor:
    """Minus the expected gradient of a trainer's loss over all groups of completions, by the parameters: [P]."""
    trainer, model = trainer_of(models, kind, options)
    prompts, total = list(models.tokens.task.prompts), [torch.zeros_like(x) for x in model.parameters()]
    policy = models.log_policy.exp().numpy()
    for p, prompt in enumerate(prompts):
        texts = Texts.of(models.known, p)
        probability = texts.probability(policy)
        every = np.concatenate(list(multisets(len(probability), models.group, 10**6)))
        for which, weight in zip(every, probability_of(every, probability), strict=True):
            written = [texts.action[y][texts.valid[y]].tolist() for y in which]
            given = (written, None) if kind == "GRPOTrainer" else written
            trainer._generate_single_turn = lambda *_, given=given, **__: given
            inputs = trainer._generate_and_score_completions([{"prompt": prompt}] * models.group)
            loss = trainer._compute_loss(model, inputs)
            for into, x in zip(total, torch.autograd.grad(loss, list(model.parameters())), strict=True):
                into -= float(weight) / len(prompts) * x
    return torch.cat([x.flatten() for x in total]).double()


def preferred_update(models: Models, kind: str, options: dict[str, Any]) -> Tensor:
    """Minus the expected gradient of DPOTrainer's loss over all pairs of completions of the reference: [P].

    The first of a pair is preferred with the probability σ(R(y) − R(z)).
    """
    trainer, model = trainer_of(models, kind, options)
    total, prompts = [torch.zeros_like(x) for x in model.parameters()], models.tokens.task.prompts
    for p, prompt in enumerate(prompts):
        texts = Texts.of(models.known, p)
        drawn = texts.probability(models.log_reference.exp().numpy())
        written = [texts.action[y][texts.valid[y]].tolist() for y in range(len(drawn))]
        better = 1 / (1 + np.exp(texts.reward - texts.reward[:, None]))  # [y, z]
        for y, z in np.ndindex(better.shape):
            pair = {"prompt_ids": [int(c) for c in prompt], "chosen_ids": written[y], "rejected_ids": written[z]}
            loss = trainer._compute_loss(model, trainer.data_collator([pair]), False)
            weight = 2 * float(drawn[y] * drawn[z] * better[y, z]) / len(prompts)  # drawn in either order
            for into, x in zip(total, torch.autograd.grad(loss, list(model.parameters())), strict=True):
                into -= weight * x
    return torch.cat([x.flatten() for x in total]).double()


def own_update(models: Models, algo: str, options: dict[str, Any], beta: float) -> Tensor:
    """That of rlnet's `grpo` or `dpo` with these options: [P]."""
    chosen = {"group": 2} if algo == "dpo" else {**options, "group": models.group}
    total, numbers = torch.zeros_like(models.log_policy), {"beta": beta, "clip_low": 0.2, "clip_high": 0.2}
    estimator = Estimator(models.known, models.log_policy, models.log_reference, algos.load(algo), chosen, numbers)
    for p in range(len(PROMPTS)):
        total += estimator.expected(Texts.of(models.known, p), None, 0)[0][0] / len(PROMPTS)
    return models.carried(total)
