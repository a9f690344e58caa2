"""How long until the first line of a user's own code runs?

Each start is a fresh process; the first of each is not counted, since it fills the file cache.
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path

from measuring import arguments, save, show, summary, take_turns, versions

IMPORTS = {
    "python alone": ("", "pass"),
    "import groundup": ("groundup", "import groundup"),
    "import torch": ("torch", "import torch"),
    "import transformers": ("transformers", "import transformers"),
    "import lightning": ("lightning", "import lightning"),
    "import keras": ("keras", "import keras"),
    "import fastai.vision": ("fastai", "import fastai.vision.all"),
    "import skorch": ("skorch", "import skorch"),
    "import litgpt": ("litgpt", "import litgpt"),
    "a Llama of groundup": ("groundup", "from groundup.models import Llama"),
    "a Llama of transformers": ("transformers", "from transformers import LlamaForCausalLM"),
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def loads_torch(statement: str) -> bool:
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode != 0


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    repeats = options.repeats or (1 if options.quick else 15)
    commands: dict[str, list[str]] = {}
    missing: list[str] = []
    for name, (package, statement) in IMPORTS.items():
        if package and importlib.util.find_spec(package) is None:
            missing.append(package)
        else:
            commands[name] = [sys.executable, "-c", statement]
    script = shutil.which("groundup", path=str(Path(sys.executable).parent))
    if script is None:
        missing.append("the groundup command")
    else:
        commands["groundup --help"] = [script, "--help"]

    turns = {name: functools.partial(seconds, command) for name, command in commands.items()}
    take_turns(turns, 1)
    found = take_turns(turns, repeats)
    alone = summary(found["python alone"])["median"]
    rows = []
    for name, values in found.items():
        timing = summary(values)
        rows.append(
            {
                "start": name,
                "median ms": timing["median"] * 1e3,
                "least": timing["least"] * 1e3,
                "most": timing["most"] * 1e3,
                "beyond python": (timing["median"] - alone) * 1e3,
                "loads torch": loads_torch(commands[name][-1]) if name in IMPORTS else None,
            }
        )
    show("Start-up", rows, f"{repeats} rounds. Not installed: {', '.join(missing) or 'nothing'}.")
    if not options.quick:
        peers = versions("lightning", "keras", "fastai", "skorch", "litgpt")
        save("startup", rows, {"repeats": repeats, "missing": missing, "peers": peers})


if __name__ == "__main__":
    main()
