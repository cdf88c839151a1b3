"""Token MDPs: the tree of prefixes, its exact optimum in closed form, and the same task stepped without a model."""

from math import exp, log

import numpy as np
import pytest
from support import composed

from rlnet.config import ConfigError
from rlnet.envs import make, preset
from rlnet.envs.tokens.simulation import TokenSimulation
from rlnet.envs.tokens.tasks import BRACKETS, is_balanced
from rlnet.envs.tokens.tree import completions, prefixes, texts
from rlnet.mdp import FiniteMDP, evaluate, solve


def environment(**settings):
    return make(preset("tokens_tiny", **settings))


@pytest.mark.parametrize(
    ("name", "states", "finished"), [("tokens_small", 19_608, 137_257), ("tokens_tiny", 1562, 7812)]
)
def test_the_tree_has_the_size_of_its_closed_form(name, states, finished):
    """Σ_{k<L} c^k prefixes of c symbols; a completion ends behind a prefix, or has L symbols."""
    made = make(preset(name))
    assert made.mdp.n_states == states == prefixes(made.tokens.task)
    assert completions(made.tokens.task) == finished == int(made.mdp.terminated.sum())


def test_states_are_their_texts_and_every_completion_is_paid_what_the_task_says():
    made = environment(symbols="012", prompts=["2", "4"], length=3)
    mdp, task = made.mdp, made.tokens.task
    written = [f"{prompt}›{text}" for prompt in task.prompts for text in texts(task)]
    assert list(mdp.labels) == written
    for state, name in enumerate(written):
        prompt, text = name.split("›")
        for action in range(4):
            pair = int(mdp.pair_index[state, action])
            after = text + (task.symbols[action] if action < 3 else "")
            ends = action == 3 or len(after) == 3
            assert bool(mdp.terminated[pair]) == ends
            assert mdp.reward[pair] == (float(after != "" and sum(map(int, after)) == int(prompt)) if ends else 0.0)
            if not ends:
                assert mdp.labels[mdp.next_state[pair]] == f"{prompt}›{after}"
        row = made.tokens.rows[state]
        assert "".join(task.alphabet[k] for k in row[1:] if k >= 0) == prompt + text
        assert row[0] == len(task.alphabet)


@pytest.mark.parametrize("beta", [0.02, 0.3, 5.0])
def test_the_regularised_optimum_is_the_closed_form(beta):
    """V* = β·log Σ_y π_ref(y)·exp(R(y)/β) and π* ∝ π_ref·exp(R/β), summed over all completions by hand."""
    made = environment(symbols="0123", prompts=["5"], length=4)
    mdp, rng = made.mdp, np.random.default_rng(3)
    log_reference = np.log(rng.dirichlet(np.ones(5), size=mdp.n_states))
    bonus = beta * log_reference[mdp.pair_state, mdp.pair_action]
    model = FiniteMDP(**{**vars_of(mdp), "reward": mdp.reward + bonus})
    found = solve(model, 1.0, temperature=beta)

    def paths(state: int, before: float):
        """(log π_ref(y), R(y), first action) of every completion behind a prefix."""
        for action in range(5):
            pair = int(mdp.pair_index[state, action])
            so_far = before + log_reference[state, action]
            if mdp.terminated[pair]:
                yield so_far, mdp.reward[pair]
            else:
                yield from paths(int(mdp.next_state[pair]), so_far)

    every = list(paths(0, 0.0))
    assert len(every) == 85 + 4**4
    assert sum(exp(p) for p, _ in every) == pytest.approx(1.0)
    partition = sum(exp(p) * exp(r / beta) for p, r in every)
    assert found.v[0] == pytest.approx(beta * log(partition), abs=1e-9)
    optimum = {}
    for action in range(5):
        pair = int(mdp.pair_index[0, action])
        first = log_reference[0, action]
        own = [(first, mdp.reward[pair])] if mdp.terminated[pair] else paths(int(mdp.next_state[pair]), first)
        optimum[action] = sum(exp(p) * exp(r / beta) for p, r in own) / partition
    np.testing.assert_allclose(found.policy[0], [optimum[a] for a in range(5)], atol=1e-9)
    again = evaluate(model, found.policy, 1.0, temperature=beta)
    assert again.v[0] == pytest.approx(found.v[0], abs=1e-9)


def vars_of(mdp: FiniteMDP) -> dict:
    names = ("pair_ptr", "pair_action", "outcome_ptr", "next_state", "probability", "reward", "terminated", "start")
    return {name: getattr(mdp, name) for name in (*names, "n_actions")}


def test_what_is_stepped_without_a_model_is_the_tree():
    """Random actions in both: the same texts, rewards and ends; prompts are drawn alike by the same seeds."""
    made = environment()
    tokens, mdp = made.tokens, made.mdp
    simulation = TokenSimulation(tokens, [3, 4], 50, tokens.task.reward)
    obs, rng = simulation.reset([7, 8]), np.random.default_rng(0)
    number = {tuple(row): s for s, row in enumerate(tokens.rows)}
    seen = set()
    for _ in range(200):
        action = rng.integers(6, size=(2, 50))
        step = simulation.step(action)
        for place in np.ndindex(2, 50):
            state = number[tuple(obs[place].astype(int))]
            pair = int(mdp.pair_index[state, action[place]])
            assert step.reward[place] == mdp.reward[pair]
            assert step.terminated[place] == mdp.terminated[pair]
            if step.terminated[place]:
                seen.add(number[tuple(step.obs[place].astype(int))])
            else:
                assert number[tuple(step.next_obs[place].astype(int))] == mdp.next_state[pair]
        obs = step.obs
    assert seen == set(np.flatnonzero(mdp.start))


def test_the_state_of_a_simulation_goes_on_exactly():
    tokens = environment().tokens
    first, second = (TokenSimulation(tokens, [3], 8, tokens.task.reward) for _ in range(2))
    first.reset()
    actions = np.random.default_rng(1).integers(6, size=(30, 1, 8))
    for action in actions[:11]:
        first.step(action)
    second.load_state_dict(first.state_dict())
    for action in actions[11:]:
        for one, two in zip(first.step(action), second.step(action), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("max_states", [1, 10**6])
def test_environments_of_a_group_begin_with_the_same_prompt(max_states):
    simulation = environment(max_states=max_states).simulate([0, 1], 64)
    simulation.group = 8
    first = simulation.reset().reshape(2, 8, 8, -1)
    assert (first == first[:, :, :1]).all()
    assert len(np.unique(first.reshape(16, -1), axis=0)) > 1


TASKS = {
    "tokens_tiny": {},
    "tokens_sort": {},
    "tokens_addition": {},
    "brackets": {"task": "brackets", "symbols": "()[]", "prompts": ["(", "["], "length": 6},
    "targets": {"task": "targets", "symbols": "ab", "prompts": [""], "length": 3, "targets": {"ab": 2.0, "bb": 1.0}},
}


@pytest.mark.parametrize("name", TASKS)
def test_demonstrations_are_right_as_often_as_the_skill_says(name):
    settings = TASKS[name]
    made = make(preset(name if not settings else "tokens_tiny", **settings, skill=1.0))
    task, most = made.tokens.task, 2.0 if name == "targets" else 1.0
    indexed = made.mdp is not None
    obs, action = made.tokens.demonstrations(np.random.default_rng(0), 200, indexed)
    for n in range(200):
        taken = action[:, n][action[:, n] >= 0]
        text = "".join(task.symbols[k] for k in taken if k < len(task.symbols))
        rows = made.tokens.rows[obs[:, n]] if indexed else obs[:, n].astype(int)
        written = "".join(task.alphabet[k] for k in rows[0][1:] if k >= 0)
        assert task.reward(written, text) == most
        for t in range(len(taken)):
            assert "".join(task.alphabet[k] for k in rows[t][1:] if k >= 0) == written + text[:t]
    _, action = made.tokens.demonstrations(np.random.default_rng(0), 5, indexed)
    assert ((action == len(task.symbols)).sum(0) + (action[-1] < len(task.symbols)) >= 1).all()


def test_balanced_brackets():
    right = {"()", "([])", "()[]"}
    assert {text for text in (*right, "(", ")(", "([)]", "", "(()") if is_balanced("", text)} == right
    assert is_balanced("(", ")")
    assert not is_balanced("(", "")
    assert set(BRACKETS) == set("([{<")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["env.task=summ"], r"env\.task=summ: allowed are addition, brackets, function, sort, sum, targets"),
        (["env.symbols=aa"], r"env\.symbols=aa: must be different characters"),
        (["env.symbols=abc"], r"env\.symbols=abc: task=sum is written in digits"),
        (["env.prompts=[a]"], r"task=sum needs prompts that are numbers"),
        (["env.prompts=['1','22']"], r"must be texts of the same length"),
        (["env.prompts=[]"], r"env\.prompts=\[\]: must be at least one text"),
        (["env.length=0"], r"env\.length=0: must be at least 1"),
        (
            ["env.length=12", "env.max_states=1000000000000"],
            r"env\.length=12 env\.symbols=01234 .*: needs about .* of memory",
        ),
        (["env.max_episode_steps=3"], r"env\.max_episode_steps=3: must be null"),
        (["env.digits=3"], r"env\.digits=3: is a setting of env\.task=addition alone"),
        (["+env.targets.1=2.0"], r"is a setting of env\.task=targets alone"),
        (["env.reward=json:loads"], r"is a setting of env\.task=function alone"),
        (["env.task=addition", "env.symbols='0123456789'"], r"are all sums of two numbers"),
        (["env.proxy=json:loads", "env.max_states=1"], r"the true reward is scored by the model"),
        (["env.skill=2"], r"env\.skill=2.0: must be a share"),
        (["env.task=function"], r"env\.reward=None: task=function needs the import path"),
        (["env.task=function", "env.reward=nowhere:f"], r"env\.reward=nowhere:f: cannot be imported"),
        (["env.task=function", "env.reward=json"], r"env\.reward=json: must be the import path"),
        (
            ["env.task=targets", "env.symbols=ab", "+env.targets.abc=1", "env.length=2"],
            r"is no completion of at most 2",
        ),
        (["env.task=brackets", "env.symbols='(a'"], r"task=brackets is written in pairs"),
        (["env.task=sort", "env.symbols=ab", "env.prompts=[abc]"], r"must be at most env\.length=5 of ab"),
        (["env.symbols='01²'"], r"env\.symbols=01²: task=sum is written in digits"),
        (["env.prompts=['²']"], r"task=sum needs prompts that are numbers"),
        (["env.prompts=['']"], r"task=sum needs prompts that are numbers"),
        (
            ["env.task=brackets", "env.symbols='()'", "env.prompts=[')']"],
            r"must be brackets that at most env\.length=5",
        ),
        (
            ["env.task=brackets", "env.symbols='()'", "env.prompts=['[']"],
            r"must be brackets that at most env\.length=5",
        ),
        (["env.task=brackets", "env.symbols='()'", "env.prompts=['((((((']"], r"env\.prompts=\['\(+'\]: must be"),
        (["env.task=targets", "env.targets.11=nan", "env.targets.0=1.0"], r"env\.targets\.11=nan: must be a finite"),
        (["env.task=function", "env.reward=.x:f"], r"env\.reward=\.x:f: must be the import path"),
    ],
)
def test_settings_that_do_not_fit_a_task_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make(composed("env=tokens_tiny", "algo=reinforce", *options).env)


def test_sums_that_cannot_be_written_are_refused():
    with pytest.raises(ConfigError, match=r"env\.length=2: must be at least 3, to write the largest sum"):
        make(composed("env=tokens_addition", "algo=reinforce", "env.length=2").env)


FOREIGN = """
def no_number(prompt, completion): return None
def infinite(prompt, completion): return 1e300 if completion == "31" else 0
def fails(prompt, completion): return 1 / 0
def text(prompt, completion): return "1"
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_rewards:no_number", "gives None for the completion '' of '3'; must be a finite number"),
        ("own_rewards:text", "gives '1' for the completion '' of '3'; must be a finite number"),
        ("own_rewards:infinite", "gives 1e[+]300 for the completion '31' of '3'; must be a finite number"),
        ("own_rewards:fails", r"fails for the completion '' of '3' \(ZeroDivisionError: .*, own_rewards.py:4\)"),
        ("own_broken:f", r"cannot be imported \(SyntaxError: .*own_broken.py"),
        ("own_raises:f", r"cannot be imported \(RuntimeError: no, own_raises.py:1\)"),
    ],
)
@pytest.mark.parametrize("key", ["reward", "proxy"])
def test_what_is_wrong_with_a_users_reward_is_told_by_its_key(tmp_path, monkeypatch, name, message, key):
    contents = {"own_rewards": FOREIGN, "own_broken": "def f(:", "own_raises": "raise RuntimeError('no')"}
    for module, text in contents.items():
        (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    chosen = {"task": "function", "reward": name} if key == "reward" else {"proxy": name}
    with pytest.raises(ConfigError, match=f"env.{key}={name}: {message}"):
        environment(prompts=["3"], **chosen)
