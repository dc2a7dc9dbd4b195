"""The layout of mmengine, of plain data: what no model of the oracle's tests brings about."""

from __future__ import annotations

import time

from opcount.reporter.arch import arch
from opcount.reporter.complexity_table import complexity_table
from opcount.reporter.structure import Complexity, Node, Structure


def complexity(names, params, flops, uncalled=()):
    return Complexity(Structure(Node("", "Net"), tuple(names)), params, {"flops": flops}, {"flops": set(uncalled)})


def test_a_chain_of_single_children_uses_up_no_depth():
    chain = [".".join(["x"] * depth) for depth in range(1, 2000)]
    twins = [chain[-1] + ".a", chain[-1] + ".b"]
    names = ["", *chain, *twins]
    flops = {**dict.fromkeys(["", *chain], 3), twins[0]: 1, twins[1]: 2}
    rows = complexity_table(complexity(names, {}, flops), 1).splitlines()[3:-1]
    assert [row.split("|")[1].strip() for row in rows] == [chain[-1], "a", "b"]


def test_a_module_deep_inside_others_is_printed_at_its_depth():
    node = Node("a.b", "Leaf", "one\ntwo", ())
    tree = Node("", "Net", "", (("a", Node("a", "Mid", "", (("b", node), ("none", None)))),))
    text = arch(Complexity(Structure(tree, ("", "a", "a.b")), {"": 7}, {"flops": {"a.b": 101}}, {"flops": set()}))
    assert text.splitlines() == [
        "Net(",
        "  #params: 7, #flops: 0",
        "  (a): Mid(",
        "    (b): Leaf(",
        "      one",
        "      two",
        "      #params: 0, #flops: 0.1K",
        "    )",
        "    (none): None",
        "  )",
        ")",
    ]


def seconds(modules):
    names = ["", *(f"m{i}" for i in range(modules // 2)), *(f"m{i}.x" for i in range(modules // 2))]
    sample = complexity(names, {}, dict.fromkeys(names, 5), names[:7])
    start = time.process_time()
    complexity_table(sample)
    arch(sample)
    return time.process_time() - start


def test_time_grows_with_the_modules_not_with_their_square():
    seconds(100)
    small, large = (min(seconds(modules) for _ in range(3)) for modules in (2_000, 16_000))
    assert large <= 3 * 8 * small  # the square would be 64 times as long
