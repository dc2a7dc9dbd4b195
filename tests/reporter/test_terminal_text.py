"""The tree and the diff for a terminal: the plain text, with colours."""

import re

import pytest

from opcount.reporter import diff_table, tree
from tests.reporter.test_outline import profile, record

pytest.importorskip("rich")
from opcount.reporter import terminal_text

BEFORE = profile(record("stem", 10), record("blocks.0.fc", 100), record("blocks.1.fc", 100), record("head", 7))
AFTER = profile(record("stem", 10), record("blocks.0.fc", 100), record("blocks.1.fc", 150), record("head", 3))
HOSTILE = profile(record("[red]a: b, 3 %", 10), record("|-- `-- x", 5), record("\x1b[31m", 5))


def plain(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.mark.parametrize("counted", [BEFORE, AFTER, HOSTILE, profile()])
def test_without_its_colours_a_tree_is_the_plain_one(counted):
    text = terminal_text.render_tree(counted)
    assert plain(text) == tree.render(counted)
    assert "\x1b[" in text


def test_a_tree_shows_names_and_shares_in_colours(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = terminal_text.render_tree(BEFORE)
    assert "\x1b[1;36mblocks" in text
    assert re.search(r"\x1b\[35m[\d.]+ %\x1b\[0m", text)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("other", [AFTER, BEFORE, HOSTILE, profile()])
def test_without_its_colours_a_diff_is_the_plain_one(other, fold):
    diff = BEFORE.diff(other)
    assert plain(terminal_text.render_diff(diff, fold=fold)) == diff_table.render(diff, fold=fold)


def test_what_grew_is_red_and_what_shrank_is_blue():
    lines = terminal_text.render_diff(BEFORE.diff(AFTER)).splitlines()
    found = {plain(line).split()[0]: line[:5] for line in lines[2:6] if plain(line)}
    assert found == {"model": "\x1b[31m", "blocks": "\x1b[31m", "blocks.1": "\x1b[31m", "blocks.1.fc": "\x1b[31m"}
    assert any(line.startswith("\x1b[34mhead") for line in lines)
