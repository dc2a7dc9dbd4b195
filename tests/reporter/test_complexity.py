"""The layout of mmengine, of plain data: what no model of the oracle's tests brings about."""

from __future__ import annotations

import cProfile
import pstats

from opcount.reporter.arch import arch
from opcount.reporter.complexity_table import Complexity, complexity_table
from opcount.structure import Node, Structure


def complexity(names, flops, uncalled=()):
    return Complexity(Structure(Node("", "Net"), tuple(names)), {"flops": flops}, {"flops": set(uncalled)})


def test_a_chain_of_single_children_uses_up_no_depth():
    chain = [".".join(["x"] * depth) for depth in range(1, 2000)]
    twins = [chain[-1] + ".a", chain[-1] + ".b"]
    names = ["", *chain, *twins]
    flops = {**dict.fromkeys(["", *chain], 3), twins[0]: 1, twins[1]: 2}
    rows = complexity_table(complexity(names, flops), 1).splitlines()[3:-1]
    assert [row.split("|")[1].strip() for row in rows] == [chain[-1], "a", "b"]


def test_a_module_deep_inside_others_is_printed_at_its_depth():
    node = Node("a.b", "Leaf", "one\ntwo", ())
    tree = Node("", "Net", "", (("a", Node("a", "Mid", "", (("b", node), ("none", None)))),))
    text = arch(
        Complexity(Structure(tree, ("", "a", "a.b"), {"a.b.weight": (7,)}), {"flops": {"a.b": 101}}, {"flops": set()})
    )
    assert text.splitlines() == [
        "Net(",
        "  #params: 7, #flops: 0",
        "  (a): Mid(",
        "    #params: 7, #flops: 0",
        "    (b): Leaf(",
        "      one",
        "      two",
        "      #params: 7, #flops: 0.1K",
        "    )",
        "    (none): None",
        "  )",
        ")",
    ]


def calls(modules):
    """Count the function calls that it takes: time is for the benchmarks."""
    names = ["", *(f"m{i}" for i in range(modules // 2)), *(f"m{i}.x" for i in range(modules // 2))]
    sample = complexity(names, dict.fromkeys(names, 5), names[:7])
    with cProfile.Profile() as profile:
        complexity_table(sample)
        arch(sample)
    return pstats.Stats(profile).total_calls


def test_work_grows_with_the_modules_not_with_their_square():
    assert calls(4_000) <= 2.1 * calls(2_000)
