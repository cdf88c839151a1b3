"""Export a learned policy for programs without rlnet: rlnet export RUN_DIR [format=both|torch|onnx] [member=0]

Writes RUN_DIR/export/policy.pt2 (torch.export), policy.onnx and policy.json (inputs and outputs): observations in, the
best action, the value and Q out. Both are checked on 1,000 observations to act as the original. out=DIR: elsewhere.
"""

from pathlib import Path
from typing import Any

from rlnet.commands.key_values import on_folder, one_of, truth, whole
from rlnet.config import ConfigError

READERS = {"format": one_of("both", "torch", "onnx"), "member": whole(0), "out": Path, "trust": truth}
DEFAULTS = {"format": "both", "member": 0, "out": None, "trust": False}


def main() -> int:
    """Run `rlnet export`: exit code 0 where it was written and acts as the original, 2 for what cannot be exported."""
    return on_folder("export", __doc__, READERS, DEFAULTS, _export)


def _export(folder: Path, chosen: dict[str, Any]) -> int:
    from rlnet.commands.api import load
    from rlnet.learning.exporting import FORMATS, export

    out = chosen["out"] or folder / "export"
    if chosen["out"] is not None and not (out.is_dir() or out.parent.is_dir()):
        raise ConfigError(f"out={out}: there is no folder {out.parent}")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={out}: is not a folder")
    policy = load(folder, chosen["member"], trust=chosen["trust"])
    files, about = export(policy.trained, out, FORMATS if chosen["format"] == "both" else (chosen["format"],))
    for name, check in about["checked"].items():
        count, apart = check["observations"], check["largest_difference"]
        print(f"{name}: the same actions in {count:,} observations; numbers differ by {apart:.1e} at most")
    for name, form in (about["inputs"] | about["outputs"]).items():
        side = "input" if name in about["inputs"] else "output"
        print(f"{side} {name}: {form['type']} [{', '.join(map(str, form['shape']))}]")
    print(f"Written: {', '.join(map(str, files))}")
    return 0
