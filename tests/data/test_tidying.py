"""Texts made tidy: what goes, what stays, and that nothing else changes."""

from __future__ import annotations

import time
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.contract import contract_of
from groundup.core.dataset import Dataset, apply
from groundup.core.errors import DataError
from groundup.data.cleaning import (
    collapse_repeats,
    mask_personal,
    normalise_unicode,
    strip_boilerplate,
    strip_controls,
    strip_html,
)


def texts(*values: str | None) -> Dataset:
    return Dataset.of(pl.DataFrame({"text": values}, schema={"text": pl.String}), {"text": "text"})


def one(step: object, text: str, **options: object) -> str:
    result: str = step(texts(text), **options).frame["text"][0]  # type: ignore[operator]
    return result


@given(st.text(max_size=60), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
@settings(max_examples=60, deadline=None)
def test_unicode_has_the_form_asked_for(text: str, form: str) -> None:
    assert one(normalise_unicode, text, form=form) == unicodedata.normalize(form, text)


def test_unseen_characters_go_and_joiners_stay() -> None:
    assert one(strip_controls, "a\x00b\u200bc\u00add\ufeffe\x85f\u202eg\th\ni") == "abcdefg\th\ni"
    assert one(strip_controls, "می‌خواهم 👩‍👩‍👧 中文") == "می‌خواهم 👩‍👩‍👧 中文"


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<p>One &amp; two</p><p>three<br>four</p>", "One & two\nthree\nfour"),
        ("<style>p { }</style><script>if (a < b) { x('<p>') }</script>Text", "Text"),
        ("<ul><li>a<li>b</ul><table><tr><td>c</td><td>d</td></tr></table>", "a\nb\nc\nd"),
        (
            "<html><head><title>Title</title></head><body><h1>Head</h1>Body <b>bold</b>.</body>",
            "Title\nHead\nBody bold.",
        ),
        ("a &lt;b&gt; &#20013;&#x6587;", "a <b> 中文"),
        ("<!-- hidden --><div class='x > y'>shown</div>", "shown"),
        ("<p>unclosed <b>tags", "unclosed tags"),
        ("no markup: a < b, AT&T, x <3", "no markup: a < b, AT&T, x <3"),
        ("<p>中文，<i>标点</i>。</p>", "中文，标点。"),
        ("", ""),
    ],
)
def test_markup_becomes_what_it_says(markup: str, expected: str) -> None:
    assert one(strip_html, markup) == expected


def test_hostile_markup_takes_no_square_time() -> None:
    started = time.process_time()
    for text in ("<" * 50_000, "<a" * 30_000, "<!--" * 20_000, "<p " + "x=" * 30_000, "&" * 50_000, "<script>" * 9_000):
        strip_html(texts(text))
    assert time.process_time() - started < 10


def test_what_is_said_again_is_shortened() -> None:
    text = "Wow!!!!!!!! Sooo good......  \nsame\nsame\nsame\n\n\n\n----------\n1000000"
    assert one(collapse_repeats, text) == "Wow!!! Sooo good...\nsame\n\n---\n1000000"
    assert one(collapse_repeats, "Sooooo", letters=2) == "Soo"
    assert one(collapse_repeats, "好好好，，，，！", marks=1) == "好好好，！"
    assert one(collapse_repeats, "a\na\na\n\n\nb", lines=2, blank_lines=2) == "a\na\n\n\nb"
    assert one(collapse_repeats, "a\n\n\nb", blank_lines=0) == "a\nb"
    with pytest.raises(DataError, match="must be 1 or more"):
        collapse_repeats(texts("a"), marks=0)


def test_lines_of_many_documents_go() -> None:
    documents = [f"Menu | Home | About | page {i}\nOwn line number of {chr(97 + i)}.\nYes." for i in range(12)]
    cleaned = apply(strip_boilerplate, texts(*documents, None), "strip_boilerplate")
    assert cleaned.frame["text"][0] == "Own line number of a.\nYes."
    assert cleaned.history[-1].notes == ("in 12 documents: Menu | Home | About | page 0",)
    assert cleaned.history[-1].cells_changed == {"text": 12}
    assert strip_boilerplate(texts(*documents[:9])).frame["text"].to_list() == documents[:9]
    assert contract_of(strip_boilerplate) == "whole"
    assert contract_of(strip_html) == contract_of(mask_personal) == "row-local"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+x@mail.example.co.uk.", "write to [email]."),
        ("请联系zhang@qq.com谢谢", "请联系[email]谢谢"),
        ("@user, a@b, me@localhost", "@user, a@b, me@localhost"),
        ("from 8.8.8.8:53 and 192.168.0.1 and 999.1.1.1", "from 8.8.8.8:53 and 192.168.0.1 and 999.1.1.1"),
        ("from 8.8.8.8, too", "from [ip], too"),
        (
            "2001:4860:4860::8888 is one, fe80::1:2:3 is not, nor std::a or 12:30:45",
            "[ip] is one, fe80::1:2:3 is not, nor std::a or 12:30:45",
        ),
        ("call +1 (212) 555-0123 or +49 30 901820 or (212) 555-0123", "call [phone] or [phone] or [phone]"),
        ("手机13812345678，编号12345678901234", "手机[phone]，编号12345678901234"),
        ("card 4111 1111 1111 1111, not 4111 1111 1111 1112", "card [card], not 4111 1111 1111 1112"),
        ("身份证11010519491231002X，错的110105194912310021", "身份证[national_id]，错的110105194912310021"),
        ("ssn 078-05-1120 and 000-05-1120", "ssn [national_id] and 000-05-1120"),
        ("pi is 3.14159265358979, in 1999-2000, 1,234,567.89", "pi is 3.14159265358979, in 1999-2000, 1,234,567.89"),
    ],
)
def test_what_names_a_person_is_masked(text: str, expected: str) -> None:
    assert one(mask_personal, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Updated 2023-01-15 and 15.01.2023, 01/15/2023 10:22:33.123",
        "version 10.0.19045.3803, Chrome/120.0.6099.109, release: 4.5.6.7, 版本1.2.3.4",
        "costs $1,234,567.89 or 12.345.678,90 €, +10 000 000 people, at +1.2345678 and +40.7127837",
        "ISBN 978-3-16-148410-0, EAN 4006381333931, at 1700000000 and 1700000000123 and 1700000000000000000",
        "12:34:56:78 00:1A:2B:3C:4D:5E std::vector::push_back, section 3.2.1.4, icon@2x.png",
    ],
)
def test_dates_versions_prices_and_the_like_name_nobody(text: str) -> None:
    assert one(mask_personal, text) == text


def test_numbers_of_persons_are_masked_wherever_they_stand() -> None:
    text = "call +1 212-555-0123, (212) 555-0123, +44 20 7946 0958 or +48 601 234 567; 378282246310005 at 8.8.8.8"
    expected = "call [phone], [phone], [phone] or [phone]; [card] at [ip]"
    assert one(mask_personal, text) == expected


def test_masks_are_counted_and_chosen() -> None:
    dataset = texts("a@b.com, c@d.org", "8.8.8.8", None)
    cleaned = apply(mask_personal, dataset, "mask_personal")
    assert cleaned.history[-1].notes == ("masked 2 email", "masked 1 ip")
    assert cleaned.history[-1].cells_changed == {"text": 2}
    assert one(mask_personal, "a@b.com 8.8.8.8", kinds=["ip"], mask="<{kind}>") == "a@b.com <ip>"


def test_a_hostile_text_takes_no_exponential_time() -> None:
    started = time.process_time()
    for text in (
        "a." * 30_000,
        "1 " * 30_000,
        "1" * 60_000,
        ":" * 60_000,
        "a@" * 30_000,
        "+1 " * 20_000,
        "a@" + "b." * 20_000,
    ):
        mask_personal(texts(text))
    assert time.process_time() - started < 10


@given(st.text(st.characters(codec="utf-8"), max_size=120))
@settings(max_examples=100, deadline=None)
def test_tidy_texts_stay_as_they_are(text: str) -> None:
    for step in (normalise_unicode, strip_controls, collapse_repeats, mask_personal):
        once = one(step, text)
        assert one(step, once) == once
