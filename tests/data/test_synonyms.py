"""Synonyms: WordNet's files are read as its manual says, from a folder or an archive, and tables group by line."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest

from groundup.core.errors import DataError
from groundup.data.augmentation.synonyms import PARTS, SynonymTable, WordNet, read_synonyms

LICENCE = b"  1 This software and database is being provided to you.  \n"


def tiny(extra: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """A WordNet of two nouns, a verb and an adjective, in the real format."""
    entries = {
        "noun": [("n", ["car", "motor_vehicle", "Auto"]), ("n", ["car", "railcar"])],
        "verb": [("v", ["run", "sprint"])],
        "adj": [("a", ["galore(ip)", "aplenty"])],
        "adv": [],
    }
    files: dict[str, bytes] = {}
    for part, synsets in entries.items():
        data, index = LICENCE, LICENCE
        offsets: dict[str, list[int]] = {}
        for kind, words in synsets:
            for word in words:
                offsets.setdefault(word.partition("(")[0].lower(), []).append(len(data))
            listed = " ".join(f"{word} 0" for word in words)
            data += f"{len(data):08d} 05 {kind} {len(words):02x} {listed} 000 | a gloss  \n".encode()
        for lemma in sorted(offsets):
            places = " ".join(f"{offset:08d}" for offset in offsets[lemma])
            index += f"{lemma} {part[0]} {len(offsets[lemma])} 1 @ {len(offsets[lemma])} 0 {places}  \n".encode()
        files |= {f"data.{part}": data, f"index.{part}": index, f"{part}.exc": b""}
    files["verb.exc"] = b"ran run\n"
    return files | (extra or {})


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, content in files.items():
            member = tarfile.TarInfo(f"wordnet/{name}")
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path


def test_words_of_the_same_synset_are_synonyms() -> None:
    net = WordNet(tiny())
    assert net.of("car") == ("auto", "motor vehicle", "railcar")
    assert net.of("Cars") == ("auto", "motor vehicle", "railcar"), "by its base form"
    assert net.of("ran") == ("sprint",), "by the list of irregular forms"
    assert net.of("running") == (), "no rule leads from it to run"
    assert net.of("galore") == ("aplenty",), "what marks an adjective's place is no part of the word"
    assert net.of("motor vehicle") == ("auto", "car")
    assert net.of("zebra") == ()


def test_a_folder_and_an_archive_are_read_alike(tmp_path: Path) -> None:
    folder = tmp_path / "dict"
    folder.mkdir()
    for name, content in tiny().items():
        (folder / name).write_bytes(content)
    packed = archive(tmp_path / "wordnet.tar.gz", tiny())
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for path in ("dict", ".", "wordnet.tar.gz"):
        assert read_synonyms(path, tmp_path).of("car") == ("auto", "motor vehicle", "railcar")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "nothing is unpacked"
    assert read_synonyms(packed) is read_synonyms(packed), "read once"


def test_what_is_no_wordnet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there are no synonyms"):
        read_synonyms("absent", tmp_path)
    with pytest.raises(DataError, match=r"index\.noun.* is missing"):
        read_synonyms(tmp_path)
    files = tiny()
    del files["data.verb"]
    with pytest.raises(DataError, match=r"data\.verb is missing"):
        read_synonyms(archive(tmp_path / "part.tar.gz", files))
    monkeypatch.setattr("groundup.data.augmentation.synonyms.MAX_BYTES", 10)
    with pytest.raises(DataError, match="unfolds to"):
        read_synonyms(archive(tmp_path / "large.tar.gz", tiny()))
    cut = archive(tmp_path / "whole.tar.gz", tiny()).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(DataError):
        read_synonyms(tmp_path / "cut.tar.gz")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 bistro\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_synonyms(tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("big\tlarge\tvery large", ("large", "very large")),
        ("big, large, very large", ("large", "very large")),
        ("big large huge", ("huge", "large")),
        ("Aa01A01= big large", ("large",)),
    ],
)
def test_a_line_of_a_table_is_a_group(line: str, expected: tuple[str, ...]) -> None:
    table = SynonymTable(f"\ufeff{line}\r\n\nalone\nfast quick\n")
    assert table.of("big") == expected
    assert table.of("BIG") == expected
    assert table.of("alone") == ()


def test_a_table_without_groups_is_refused() -> None:
    with pytest.raises(DataError, match="no synonyms in it"):
        SynonymTable("Aa01A07# 工农 军民\nAa01A08@ 独\nword\n")


@pytest.fixture(scope="module")
def wordnet(shared_data: Path) -> WordNet:
    found = read_synonyms(shared_data / "lex_wordnet" / "wordnet30_dict.tar.gz")
    assert isinstance(found, WordNet)
    return found


def test_wordnet_has_the_published_counts(wordnet: WordNet) -> None:
    """wnstats(7WN) of WordNet 3.0: unique strings and synsets."""
    assert {part: len(wordnet._index[part]) for part in PARTS} == {
        "noun": 117798, "verb": 11529, "adj": 21479, "adv": 4481,
    }  # fmt: skip
    lines = {part: len(re.findall(rb"(?m)^\d{8} ", wordnet._data[part])) for part in PARTS}
    assert lines == {"noun": 82115, "verb": 13767, "adj": 18156, "adv": 3621}


def test_known_synsets_of_wordnet(wordnet: WordNet) -> None:
    dog = wordnet.synsets("dog")
    assert (dog[0][0], dog[0][2]) == ("noun", ("dog", "domestic_dog", "Canis_familiaris"))
    assert dog[0][1] == 2084071, "the offset of dog.n.01"
    assert [part for part, _, _ in dog] == ["noun"] * 7 + ["verb"]
    assert {"auto", "automobile", "machine", "motorcar", "railcar", "cable car"} <= set(wordnet.of("car"))
    assert wordnet.of("films") == wordnet.of("film")
    assert wordnet.bases("geese", "noun") == ["goose"]
    assert wordnet.bases("studied", "verb") == ["study"]
    assert wordnet.bases("better", "adj") == ["better", "good", "well"]
    assert "motion picture" in wordnet.of("movies")


def test_every_synset_of_wordnet_can_be_parsed(wordnet: WordNet) -> None:
    words = list(wordnet._index["adv"])[::7] + list(wordnet._index["verb"])[::31]
    for word in words:
        for _, _, names in wordnet.synsets(word):
            assert names
            assert all(re.fullmatch(r"[\w'./-]+", name) for name in names), names


def test_cilin_gives_its_lines_of_synonyms(shared_data: Path) -> None:
    table = read_synonyms(shared_data / "lex_cilin" / "cilin_ex.txt")
    assert {"屋子", "室", "房"} <= set(table.of("房间"))
    assert "顺民" not in table.of("良民"), "a line marked # is words of one kind"
