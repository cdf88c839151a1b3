"""A run's folder that a stranger made, or that was damaged: nothing is imported, computed or unpickled."""

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from support import composed, quick

from rlnet.commands import command_line
from rlnet.config import ConfigError
from rlnet.config.files import printable, read_arrays, read_json, read_yaml
from rlnet.config.trust import own_overrides
from rlnet.envs.adapter import GymnasiumSimulation
from rlnet.experiment.comparison_files import rescore
from rlnet.experiment.problem import build
from rlnet.learning.training_loop import train
from rlnet.learning.training_state import TrainingState
from rlnet.report.page import write_page
from rlnet.report.sweep import write_sweep

pytestmark = pytest.mark.usefixtures("without_pictures")

TINY = ("env=random_walk", "env.length=3", "steps=64", "log_every=32", "compare_every=64", "network=tabular")
EVIL = "rlnet_test_evil"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    train(composed(*TINY), folder)
    OmegaConf.save(OmegaConf.create(list(TINY)), folder / ".hydra" / "overrides.yaml")
    write_page(folder)
    return folder


@pytest.fixture
def folder(finished, tmp_path, monkeypatch) -> Path:
    """A copy, beside a module that must never be imported."""
    (tmp_path / f"{EVIL}.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Path(shutil.copytree(finished, tmp_path / "run"))


def change(folder: Path, **groups: dict) -> None:
    path = folder / ".hydra" / "config.yaml"
    config = OmegaConf.to_container(OmegaConf.load(path))
    OmegaConf.save({**config, **groups}, path)


def module(target: str) -> dict:
    own = {"target": target, "kwargs": {}, "shape": [], "input": "one_hot"}
    return {"name": "module", "initial_value": 0.0, "dueling": False, **own}


def gymnasium_env(name: str, **kwargs) -> dict:
    rest = {"name": "x", "kind": "gymnasium", "gamma": 0.9, "max_episode_steps": None, "stepping": "auto"}
    return {**rest, "id": name, "kwargs": kwargs}


@pytest.mark.parametrize(
    "changed",
    [
        {"network": module("os.system")},
        {"network": module(f"{EVIL}.Net")},
        {"network": module("torch.nn.Flatten")},
        {"env": gymnasium_env(f"{EVIL}:Env-v0")},
        {"env": gymnasium_env("GymV26Environment-v0", env_id=f"{EVIL}:Env-v0")},
        {"gamma": "${oc.env:HOME}"},
        {"gamma": "${oc.decode:'0.5'}"},
        {"gamma": "${env.${oc.env:HOME}}"},
    ],
)
@pytest.mark.parametrize("use", [rescore, write_page])
def test_what_would_run_code_is_refused_without_trust(folder, changed, use):
    # The folder itself cannot say that it is to be trusted.
    change(folder, trust=True, **changed)
    with pytest.raises(ConfigError, match="trust=true"):
        use(folder)
    assert EVIL not in sys.modules


@pytest.mark.parametrize(
    "override",
    [
        "+x=${oc.env:SECRET}",
        "env.name=${oc.decode:'1'}",
        "--config-dir=/tmp",
        "-m",
        "env=../../elsewhere",
        "network=/abs",
        "schedule@optimizer.schedule=../x",
        "x/y=z",
        ["a"],
    ],
)
def test_overrides_from_a_folder_compute_nothing_and_lead_nowhere(override):
    with pytest.raises(ConfigError, match=r"is not a setting|names no config|would be evaluated"):
        own_overrides([override], Path("overrides.yaml"), trust=False)


def test_overrides_from_a_folder_leave_out_what_is_about_its_start():
    stored = ["env=cliff", "hydra.run.dir=/etc", "hydra/launcher=x", "hydra.searchpath=[file:///x]", "++trust=true"]
    stored += ["+resume=/x", "~env.cells.C", "gamma=${env.gamma}", "vary.gamma=[0.9]"]
    kept = ["env=cliff", "~env.cells.C", "gamma=${env.gamma}", "vary.gamma=[0.9]"]
    assert own_overrides(stored, Path("overrides.yaml"), trust=False) == kept


def test_a_resume_takes_no_module_from_the_folder(folder, monkeypatch, capsys):
    overrides = [*TINY, "network=module", f"network.target={EVIL}.Net"]
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
    monkeypatch.setattr(sys, "argv", ["train.py", f"resume={folder}"])
    assert command_line.launch("train", lambda *_: pytest.fail("was begun"), claim=False) == 2
    assert f"network.target={EVIL}.Net would be imported" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["os.system", "os.getcwd", "builtins.dict", "collections.OrderedDict"])
def test_what_is_no_module_is_not_even_called(target, tmp_path):
    touched = tmp_path / "touched"
    arguments = [f"++network.kwargs.command='touch {touched}'"] if target == "os.system" else []
    with pytest.raises(ConfigError, match=r"network.target="):
        build(composed("env=random_walk", "network=module", f"network.target={target}", *arguments))
    assert not touched.exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os.system", "must be a torch.nn.Module"),
        ("torch.nn.Nope", "is not a class that can be imported"),
        ("nowhere.Net", "is not a class that can be imported"),
        ("torch", "is not a class that can be imported"),
        ("rlnet_test_broken.Net", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("rlnet_test_lacking.Net", "cannot be imported (ModuleNotFoundError: No module named 'rlnet_test_nowhere')"),
    ],
)
def test_a_target_that_cannot_be_used_ends_in_one_sentence_and_nothing_else(
    target, said, tmp_path, monkeypatch, capsys, caplog
):
    (tmp_path / "rlnet_test_broken.py").write_text("1 / 0\n")
    (tmp_path / "rlnet_test_lacking.py").write_text("import rlnet_test_nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    options = ["env=random_walk", "network=module", f"network.target={target}", f"hydra.run.dir={tmp_path / 'run'}"]
    monkeypatch.setattr(sys, "argv", ["train.py", *options])
    assert command_line.launch("train", lambda config, _: build(config), claim=False) == 2
    assert capsys.readouterr().err == f"error: network.target={target}: {said}\n"
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["report.html", "metrics.csv", "values.npz", ".hydra/config.yaml", "x.part"])
def test_links_are_neither_read_nor_written(folder, name, tmp_path):
    target, path = tmp_path / "target", folder / name
    target.write_bytes(path.read_bytes() if path.exists() else b"kept")
    before = target.read_bytes()
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    for use in (rescore, write_page):
        with pytest.raises(ConfigError, match="is a link"):
            use(folder)
    assert target.read_bytes() == before


def test_pickled_environments_stay_pickled_without_trust(monkeypatch, caplog):
    options = ("env=cartpole", "env.stepping=sync", "algo=dqn", "algo.learning_starts=32", "algo.n_step=3")
    config = composed(*options, "algo.envs=2", "steps=640")
    first, second = (TrainingState(config, build(config)) for _ in range(2))
    for _ in range(8):
        first.replay.add(first.collect())
    monkeypatch.setattr(GymnasiumSimulation, "load_state_dict", lambda *_: pytest.fail("was unpickled"))
    second.load_state_dict(first.state_dict(), trust=False)
    assert "trust=true" in caplog.text
    newest = (second.replay._added - 1) % second.replay.slots
    truncated, terminated = (second.replay._ring.field(name)[newest] for name in ("truncated", "terminated"))
    assert (truncated | terminated).all(), "what comes next is another episode"
    assert (second.collector._episodes.age == 0).all()
    second.collect()


def test_files_that_would_not_fit_into_memory_are_refused(tmp_path):
    bomb, header = tmp_path / "bomb.npz", tmp_path / "header.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v.npy", b"\0" * 2**20)
    content = bytearray(bomb.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24  # the size in the archive's list of its files
    content[place : place + 4] = (2**32 - 2).to_bytes(4, "little")
    bomb.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bomb.npz: (unpacks to|cannot be read)"):
        read_arrays(bomb)
    np.savez(header, v=np.zeros(3))
    said = header.read_bytes().replace(b"(3,)", b"(9,)")
    header.write_bytes(said)
    with pytest.raises(ConfigError, match=r"header.npz: cannot be read"):
        read_arrays(header)
    swapped = tmp_path / "swapped.npz"
    np.savez(swapped, pi=np.array([0.25, 0.75], ">f4"), n=np.array([1, 2], ">i8"))
    arrays = read_arrays(swapped)  # written by a machine with another order of bytes
    assert (arrays["pi"].tolist(), arrays["n"].tolist()) == ([0.25, 0.75], [1, 2])
    assert all(array.dtype.isnative for array in arrays.values())
    objects = tmp_path / "objects.npz"
    np.savez(objects, v=np.array([{}], dtype=object))
    with pytest.raises(ConfigError, match=r"objects.npz: cannot be read"):
        read_arrays(objects)
    laughs = tmp_path / "laughs.yaml"
    laughs.write_text("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n")
    with pytest.raises(ConfigError, match="alias"):
        read_yaml(laughs)
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 200_000)
    with pytest.raises(ConfigError, match=r"deep.json: cannot be read"):
        read_json(deep)


def test_names_do_nothing_to_a_page_or_a_terminal(finished, tmp_path):
    assert printable("a\x1b[2Jb\u202ec\ud800é") == "a\\x1b[2Jb\\u202ec\\ud800é"
    for name in ("javascript:alert(1)", "<script>alert(1)<", "quo\"te' on=x", "new\nline"):
        shutil.copytree(finished, tmp_path / name)
    page = write_sweep(tmp_path).read_text(encoding="utf-8")
    assert 'href="./javascript%3Aalert%281%29/report.html"' in page
    assert 'href="javascript' not in page
    assert "<script>" not in page
    stored = json.loads((finished / "comparison.json").read_text())
    changed = tmp_path / "javascript:alert(1)"
    (changed / "comparison.json").write_text(json.dumps({**stored, "verdict": "</script><b>\x1b[31m"}))
    page = write_page(changed).read_text(encoding="utf-8")
    assert "</script><b>" not in page
    assert "\x1b" not in page


def mutations(content: bytes, rng: np.random.Generator) -> bytes:
    """One damage: cut short, bytes flipped or replaced, junk, numbers and words changed, nested deeply."""
    kind, place = rng.integers(8), int(rng.integers(len(content)))
    if kind == 0:
        return content[:place]
    if kind == 1:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        return bytes(flipped)
    if kind == 2:
        return content[:place] + rng.bytes(8) + content[place + 8 :]
    if kind == 3:
        return rng.bytes(200)
    if kind == 4:
        return content[:place] + b"[" * 5000 + content[place:]
    words = [b"null", b'"nan"', b"1e999", b"9" * 30, b"-1", b"[]", b"{}", b"true", b'"\\u001b"', b"NaN", b"${x}"]
    digits = [k for k, c in enumerate(content) if chr(c).isdigit()] or [place]
    at = digits[int(rng.integers(len(digits)))]
    return content[:at] + words[int(rng.integers(len(words)))] + content[at + 1 :]


NAMES = ("metrics.csv", "comparison.json", "values.npz", ".hydra/config.yaml", ".hydra/overrides.yaml")


@pytest.mark.parametrize("name", quick(NAMES, ["comparison.json"]))
def test_damaged_files_end_in_sentences(finished, name, tmp_path):
    rng = np.random.default_rng(NAMES.index(name))
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    content, said = (finished / name).read_bytes(), []
    for _ in range(int(os.environ.get("RLNET_FUZZ", "25"))):
        (folder / name).write_bytes(mutations(content, rng))
        for use in (rescore, write_page):
            with np.errstate(all="ignore"):
                try:
                    use(folder)
                except ConfigError as error:
                    said.append(str(error))
    assert said
    assert [sentence for sentence in said if len(sentence.splitlines()) != 1] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
