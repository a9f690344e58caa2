from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import RecipeError
from groundup.core.patterns import matching

NAMES = ["embedding.weight", "blocks.0.attention.query.weight", "blocks.1.attention.query.weight", "head.bias"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", NAMES),
        ("blocks.*.weight", NAMES[1:3]),
        ("blocks.1.*", NAMES[2:3]),
        ("blocks.[01].attention.*", NAMES[1:3]),
        ("head.bias", NAMES[3:]),
        ("????.bias", NAMES[3:]),
    ],
)
def test_names_are_found_in_their_order(pattern: str, found: list[str]) -> None:
    assert matching(NAMES, pattern, "recipe.init[0].where") == found
    assert matching(iter(NAMES), pattern, "recipe.init[0].where") == found


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("block.*.attention.query.weight", "Did you mean 'blocks.*.attention.query.weight'?"),
        ("head.bais", "Did you mean 'head.bias'?"),
        ("HEAD.bias", "Did you mean 'head.bias'?"),
        ("", "There is: "),
    ],
)
def test_a_pattern_without_a_match_is_refused_with_its_place_and_the_nearest_name(pattern: str, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        matching(NAMES, pattern, "recipe.swap[0].where")
    assert str(refused.value).startswith(f"recipe.swap[0].where: the pattern {pattern!r} matches nothing.")
    assert said in str(refused.value)


@given(st.lists(st.text("ab.01", min_size=1), min_size=1), st.text("ab.*?01"))
def test_what_is_found_is_what_a_shell_finds(names: list[str], pattern: str) -> None:
    expected = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if expected:
        assert matching(names, pattern, "here") == expected
    else:
        with pytest.raises(RecipeError, match=r"^here: "):
            matching(names, pattern, "here")
