"""Fetching, against a small hub on this machine that answers as the real one does; and families that are not here."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from groundup.core.errors import CheckpointError
from groundup.core.use import Use
from groundup.models import Llama
from groundup.models.adapter import Adapted
from groundup.models.fetch import fetch
from groundup.models.hugging_face import read_folder, write_folder
from groundup.models.start import open_start

pytest.importorskip("huggingface_hub")
COMMIT = "c0ffee" + "0" * 34


class Hub(http.server.ThreadingHTTPServer):
    """Models by name -> files by name; ``asked`` is what was downloaded."""

    def __init__(self, models: dict[str, dict[str, bytes]]) -> None:
        self.models = models
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self, body: bool = True) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        files = self.server.models.get(name)
        if files is None:
            code = "GatedRepo" if name.startswith("gated/") else "RepoNotFound"
            return self._send(b"", 403 if code == "GatedRepo" else 404, {"X-Error-Code": code}, body)
        if api and parts[4:5] == ["tree"]:
            listed = [{"type": "file", "path": n, "size": len(b), "oid": _digest(b)} for n, b in files.items()]
            return self._send(json.dumps(listed).encode(), 200, {}, body)
        if api:
            about = {"id": name, "modelId": name, "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]}
            return self._send(json.dumps(about).encode(), 200, {}, body)
        file = "/".join(parts[4:])
        if body:
            self.server.asked.append(file)
        content = files[file]
        return self._send(content, 200, {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}, body)

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def _send(self, content: bytes, status: int, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    torch.manual_seed(0)
    write_folder(Llama(50, 2), tmp_path / "published", shard_bytes=100_000)
    files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    more = {"consolidated.safetensors": b"the same again", "pytorch_model.bin": b"pickle", "modeling.py": b"code"}
    server = Hub(
        {"org/tiny": {**files, **more, "tokenizer.json": b"{}"}, "org/old": {"config.json": b"{}", "a.bin": b""}}
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_a_published_model_is_fetched_and_read(hub: Hub, tmp_path: Path) -> None:
    folder = fetch("org/tiny", tmp_path / "tiny")
    there = {path.name for path in folder.iterdir() if path.is_file()}
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} < there
    assert not there & {"consolidated.safetensors", "pytorch_model.bin", "modeling.py"}
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(read_folder(folder)(tokens), read_folder(tmp_path / "published")(tokens))
    asked = len(hub.asked)
    fetch("org/tiny", tmp_path / "tiny")
    assert len(hub.asked) == asked, "what is there is not downloaded again"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny", "expected org/name"),
        ("org/none", "org/none: the hub has no such model, or it is private"),
        ("gated/tiny", "its owner asks for a licence to be accepted.*HF_TOKEN"),
        ("org/old", "neither model.safetensors nor .*, only a.bin.*groundup convert"),
    ],
)
def test_what_cannot_be_fetched_says_why(hub: Hub, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        fetch(name, tmp_path / "x")


def test_a_hub_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"cannot be reached or broke off.*copy the model's folder here"):
        fetch("org/tiny", tmp_path / "x")


# --- families that are not here


def test_a_family_that_is_not_here_runs_through_transformers_and_says_so(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPTJConfig(vocab_size=50, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64)
    theirs = transformers.GPTJForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "gptj")
    start = open_start(tmp_path / "gptj", Use("Published"), {"vocab_size": 50})
    assert "family 'gptj' is not written out in groundup; it runs through transformers" in start.notes[0]
    model = start.read()
    assert isinstance(model, Adapted)
    tokens = torch.randint(0, 50, (2, 9))
    torch.testing.assert_close(model(tokens), theirs(tokens).logits)
    targets = tokens.roll(-1, 1)
    targets[:, -1] = -100
    torch.testing.assert_close(model(tokens, targets=targets), theirs(tokens, labels=tokens).loss)
    documents = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 2], [0] * 9])
    packed = model(tokens, documents=documents)
    for first, last in ((0, 4), (4, 6), (6, 9)):
        torch.testing.assert_close(packed[:1, first:last], theirs(tokens[:1, first:last]).logits)
    torch.testing.assert_close(packed[1:], theirs(tokens[1:]).logits)
    (tmp_path / "gptj" / "config.json").write_text('{"model_type": "no_such_family"}')
    with pytest.raises(CheckpointError, match="neither groundup nor transformers reads this"):
        open_start(tmp_path / "gptj", Use("Published"), {"vocab_size": 50}).read()
