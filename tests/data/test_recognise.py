"""A file is read by what its content calls for; lines of text, whole or in shards."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from groundup.core.errors import DataError
from groundup.data.sources import any_file, text_files, text_lines
from groundup.data.sources.recognise import recognise


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("DESC how far is it ?\r\nNUM  wie weit, é\n\nDESC\nHUM who\rNUM last".encode())
    dataset = text_lines(path, label="first", max_rejected=1)()
    assert dataset.frame.drop("_row").rows() == [
        ("DESC", "how far is it ?"), ("NUM", "wie weit, é"), ("HUM", "who"), ("NUM", "last"),
    ]  # fmt: skip
    assert [(one.line, one.raw) for one in dataset.quarantine.rejected] == [(4, b"DESC")]
    assert "1 blank lines passed over" in dataset.history[0].notes
    shards = list(text_lines(path, label="first", max_rejected=1).shards(2))
    assert pl.concat([shard.frame for shard in shards]).equals(dataset.frame)
    assert [len(shard.quarantine.rejected) for shard in shards] == [0, 1]
    last = text_lines(path, label="last", max_rejected=1)()
    assert last.frame["label"].to_list() == ["?", "é", "who", "last"]
    assert last.frame["text"][2] == "HUM"
    assert text_lines(path)().frame["text"].to_list()[1] == "NUM  wie weit, é"


def test_lines_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("é\n".encode() * 40 + b"\xff\xfe\nzero\0\n")
    dataset = text_lines(path, max_rejected=2)()
    assert len(dataset) == 40
    assert [(one.line, one.raw) for one in dataset.quarantine.rejected] == [(41, b"\xff\xfe"), (42, b"zero\0")]


def test_trec(shared_data: Path) -> None:
    dataset = any_file(shared_data / "cls_kim2014" / "TREC.train.all")
    assert len(dataset) == 5452
    assert dataset.frame["label"].unique().sort().to_list() == ["0", "1", "2", "3", "4", "5"]
    assert dataset.frame["text"][0] == "How did serfdom develop in and then leave Russia ?"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cls_clinc150/data_full.json", "json"),
        ("cls_clinc150/README.md", "text_files"),
        ("cls_kim2014/TREC.test.all", "text_lines"),
        ("cls_sst2/dev.tsv", "csv"),
        ("img_hymenoptera/hymenoptera_256.tar", "image_folder"),
        ("img_mnist/t10k-images-idx3-ubyte.gz", "idx"),
        ("lex_wordnet/wordnet30_dict.tar.gz", "text_files"),
        ("lm_tinyshakespeare/input.txt", "text_files"),
        ("lm_names/names.txt", "text_lines"),
        ("sft_gsm8k/train.jsonl", "json_lines"),
        ("tab_titanic/titanic.csv", "csv"),
        ("lm_english_novels_100", "text_files"),
    ],
)
def test_what_reads_what(shared_data: Path, path: str, source: str) -> None:
    use, why = recognise(shared_data / path)
    assert use.target == source
    assert why


@pytest.mark.parametrize(
    "path",
    [
        "tok_llama/tokenizer.model",
        "w_stories260K/hf/model.safetensors",
        "w_resnet_cifar10/resnet20-12fca82f.th",
        "w_mobilenetv1_025/mobilenetV1X0.25_pretrain.tar",
        "w_squeezenet11_ncnn/squeezenet1_1_torchvision_keys.pth",
    ],
)
def test_weights_are_no_data(shared_data: Path, path: str) -> None:
    with pytest.raises(DataError, match="neither"):
        recognise(shared_data / path)


def test_columnar_files(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    frame.write_parquet(tmp_path / "a")
    frame.write_ipc(tmp_path / "b")
    for name, source in (("a", "parquet"), ("b", "arrow")):
        assert recognise(tmp_path / name)[0].target == source
        assert any_file(tmp_path / name).frame.drop("_row").equals(frame)


def test_text_in_an_archive_and_in_old_encodings(shared_data: Path, tmp_path: Path) -> None:
    words = text_files(shared_data / "lex_wordnet" / "wordnet30_dict.tar.gz", pattern="**/*.exc")
    assert "wordnet/adj.exc" in words.frame["path"].to_list()
    assert all(path.endswith(".exc") for path in words.frame["path"])
    novel = (shared_data / "lm_chinese_novels" / "红楼梦.txt").read_text(encoding="utf-8", errors="replace")[:20_000]
    (tmp_path / "old.txt").write_bytes(novel.encode("gb18030"))
    assert text_files(tmp_path / "old.txt", encoding="detect").frame["text"][0] == novel
    with pytest.raises(DataError, match="not readable as text"):
        text_files(tmp_path / "old.txt")
