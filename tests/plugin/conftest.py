"""pytest runs inside the tests: each test writes test files, runs them, and reads what was printed."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np  # noqa: F401  (an inner run forgets what it imports first: torch and numpy cannot begin again)
import pytest

import opcount.counter
import opcount.formulas
import opcount.pytest_plugin  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = bool(entry_points(group="pytest11", name="opcount"))
PLUGIN = () if INSTALLED else ("-p", "opcount.pytest_plugin")

NET = """
import pytest
import torch
from torch import nn
from opcount import flop_budget as budget

def make_net():
    return nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 5))

@pytest.fixture
def net():
    net = make_net()
    net(torch.ones(7, 10))  # setup: counted by nobody
    yield net
    net(torch.ones(7, 10))

def run(net):
    return net(torch.ones(1, 10))  # 1 x (10 x 10 + 10 x 5) = 150 MAC
"""


INI = """
[pytest]
filterwarnings =
    error
    ignore:Module already imported:pytest.PytestAssertRewriteWarning
"""
"""The second line: runs in this process share its modules."""


@pytest.fixture
def pytester(pytester, monkeypatch):
    """Let child processes find opcount where it is not installed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in [name for name in os.environ if name.startswith("GITHUB_")]:  # where these tests run on GitHub
        monkeypatch.delenv(name)
    return pytester


@pytest.fixture
def check(pytester):
    """Run a test file below the definitions of NET; return the result."""
    pytester.makeini(INI)

    def run(source="", *args, subprocess=False, name="test_it", benchmark=False):
        if source:
            pytester.makepyfile(**{name: NET + source})
        runner = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
        return runner(*PLUGIN, *(() if benchmark else ("-p", "no:benchmark")), *args)  # it warns under xdist

    return run
