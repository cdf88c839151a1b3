"""Processor time of a GRPO step of TRL and of rlnet: the same completions of the same small Llama, in one process."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, cast

import torch

from rlnet.commands.api import composed
from rlnet.config import CausalLMConfig, Config
from rlnet.diagnosis.trl_trainers import tokenizer_of
from rlnet.experiment.problem import Problem, build
from rlnet.learning.training_state import TrainingState
from rlnet.learning.updates import learn

WARM, STEPS = 3, 10  # steps that are not measured, and that are, in a turn
SETTINGS = ("env=tokens_small", "algo=grpo", "network=causal_lm", "env.reference_steps=0")


@dataclass
class Clock:
    """Milliseconds between calls, of the processor and of the wall."""

    processor: list[float]
    wall: list[float]

    def tick(self) -> None:
        """A step begins or ends."""
        self.processor.append(1e3 * time.process_time())
        self.wall.append(1e3 * time.perf_counter())

    def steps(self) -> list[tuple[float, float]]:
        """(processor, wall) of every step behind the first ones."""
        pairs = [(b - a, d - c) for a, b, c, d in zip(
            self.processor, self.processor[1:], self.wall, self.wall[1:], strict=False)]  # fmt: skip
        return pairs[WARM:]


def own_steps(config: Config, problem: Problem) -> list[tuple[float, float]]:
    """Those of rlnet: sampling, scoring and the optimiser's step."""
    run, clock = TrainingState(config, problem), Clock([], [])
    clock.tick()
    for _ in range(WARM + STEPS):
        learn(run, run.collect())
        clock.tick()
    return clock.steps()


def trl_steps(config: Config, problem: Problem) -> list[tuple[float, float]]:
    """Those of TRL's trainer, with the numbers of the config; what it logs and saves is switched off."""
    import trl
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

    assert problem.environment.tokens is not None
    task, own, algo = problem.environment.tokens.task, cast(CausalLMConfig, config.network), config.algo
    tokenizer = tokenizer_of(task.alphabet)
    clock = Clock([], [])

    def rewarded(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [task.reward(p, c.replace(" ", "")) for p, c in zip(prompts, completions, strict=True)]

    class Timed(TrainerCallback):  # type: ignore[misc]  # a class of another package
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.tick()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    end = len(task.alphabet)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=end + 1, hidden_size=own.hidden_size, num_hidden_layers=own.layers, num_attention_heads=own.heads,
        num_key_value_heads=own.heads, intermediate_size=own.intermediate_size, max_position_embeddings=64,
        bos_token_id=None, eos_token_id=end, pad_token_id=end, attn_implementation="eager",
    ))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        numbers, group = algo.hyper, int(algo.options["group"])
        arguments = trl.GRPOConfig(
            output_dir=folder, per_device_train_batch_size=algo.envs, num_generations=group, loss_type="grpo",
            max_completion_length=task.length, beta=numbers["beta"], epsilon=numbers["clip_low"],
            learning_rate=config.optimizer.learning_rate, max_steps=WARM + STEPS, report_to=[], use_cpu=True,
            bf16=False, gradient_checkpointing=False, logging_strategy="no", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = trl.GRPOTrainer(
            model=folder, args=arguments, reward_funcs=rewarded, processing_class=tokenizer,
            train_dataset=Dataset.from_dict({"prompt": list(task.prompts) * algo.envs}), callbacks=[Timed()],
        )  # fmt: skip
        trainer.train()
    return clock.steps()


def run(rounds: int) -> None:
    """Print the time of a step of TRL beside rlnet's, medians over `rounds` turns of each program."""
    if find_spec("trl") is None:
        print("TRL is not installed, so nothing is compared: pip install -e '.[trl]'")
        return
    warnings.filterwarnings("ignore")
    _print_steps(rounds)


def _print_steps(rounds: int) -> None:
    import trl

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = composed(*SETTINGS)
    problem = build(config, exact=False)
    found: dict[str, list[tuple[float, float]]] = {"rlnet": [], f"TRL {trl.__version__}": []}
    for _ in range(rounds):
        for name, measure in zip(found, (own_steps, trl_steps), strict=True):
            found[name] += measure(config, problem)
    torch.set_num_threads(threads)
    medians = {name: [statistics.median(own) for own in zip(*steps, strict=True)] for name, steps in found.items()}
    print(f"\nA GRPO step of {config.algo.envs} completions ({config.env.title()}, one thread; medians of "
          f"{rounds} × {STEPS} steps)\n")  # fmt: skip
    print("| | processor, ms | wall, ms |\n|---|---|---|")
    for name, (processor, wall) in medians.items():
        print(f"| {name} | {processor:.1f} | {wall:.1f} |")
    own, other = (x[0] for x in medians.values())
    print(f"\nTRL takes {other / own:.1f} times the processor time.")
