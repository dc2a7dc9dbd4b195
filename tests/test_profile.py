"""A profile: group-bys over records, sums, and JSON."""

import copy
import pickle

import pytest

from opcount.convention import Convention
from opcount.cost import Cost
from opcount.errors import ConventionError, ProfileFormatError
from opcount.profile import Module, Profile, Record, Total, merge, parents

SHARED = Record(
    ("", "b", "a.shared"), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(100, 0, 10), 40, "(2x5)", 20
)
NORM = Record(("", "a"), "aten.native_layer_norm.default", "norm", "forward", "float32", 2, Cost(0, 30, 0), 24, "", 1)
GRAD = Record(("", "b"), "aten.mm.default", "matmul", "backward", "bfloat16", 3, Cost(200, 0, 0), 8, "", 23)
FREE = Record(("",), "aten.view.default", "free", "forward", "float32", 4, Cost())
LOST = Record(("",), "lib.f.default", "uncounted", "forward", "float32", 5, Cost(), 16)
PROFILE = Profile(
    records=(SHARED, NORM, GRAD, FREE, LOST),
    modules={p: Module(p, "M", n, 1) for p, n in (("", 9), ("a", 4), ("a.shared", 3), ("b", 5), ("idle", 0))},
    provenance={"torch": "2.13.0"},
    unattributed={"forward was not observed": 2},
    formulas={"aten.mm.default": "``out = a @ b``."},
)


def test_the_total_is_the_sum_of_the_records():
    assert PROFILE.total == Total(
        macs=300, arith=30, flops=330, activations=10, calls=15, bytes_written=88, bytes_read=44
    )
    assert (PROFILE.macs, PROFILE.arith, PROFILE.flops, PROFILE.activations, PROFILE.params) == (300, 30, 330, 10, 9)


def test_an_owner_is_the_dotted_parent_and_a_caller_is_who_called():
    owners, callers = PROFILE.by_module(), PROFILE.by_module("caller")
    assert {p: t.macs for p, t in owners.items()} == {"": 300, "a": 100, "a.shared": 100, "b": 200, "idle": 0}
    assert {p: t.macs for p, t in callers.items()} == {"": 300, "a": 0, "a.shared": 100, "b": 300, "idle": 0}


def test_a_module_that_calls_itself_counts_once():
    record = SHARED._replace(stack=("", "a", "b", "a"))
    assert Profile(records=(record,)).by_module("caller")["a"].macs == 100


def test_an_unknown_view_is_refused():
    with pytest.raises(ValueError, match="expected 'owner' or 'caller', got 'parent'"):
        PROFILE.by_module("parent")


def test_views_by_operator_family_phase_and_dtype():
    assert {k: t.calls for k, t in PROFILE.by_operator().items()} == {
        "aten.mm.default": 4,
        "aten.native_layer_norm.default": 2,
    }
    assert {k: t.macs for k, t in PROFILE.by_family().items()} == {"matmul": 300, "norm": 0}
    assert {k: t.macs for k, t in PROFILE.by_phase().items()} == {"forward": 100, "backward": 200}
    assert {k: t.macs for k, t in PROFILE.by_dtype().items()} == {"float32": 100, "bfloat16": 200}
    assert PROFILE.by_module_and_operator()["a"]["aten.mm.default"].macs == 100


@pytest.mark.parametrize("view", ["by_family", "by_operator", "by_phase", "by_dtype"])
def test_every_view_sums_to_what_was_counted(view):
    counted = PROFILE.select(lambda r: r.family not in ("free", "uncounted")).total
    assert sum(getattr(PROFILE, view)().values(), Total()) == counted


def test_another_convention_reads_the_same_records():
    assert [PROFILE.with_convention(c).flops for c in ("macs", "torch", "full")] == [300, 600, 630]
    assert PROFILE.flops == 330


def test_profiles_add_up_record_by_record():
    twice = PROFILE + PROFILE
    assert twice.total == Total(*(2 * n for n in PROFILE.total))
    assert len(twice.records) == len(PROFILE.records)
    assert twice.modules["a"].calls == 2
    assert twice.params == 9
    assert twice.unattributed == {"forward was not observed": 4}
    assert sum([PROFILE, PROFILE]) == twice


def test_addition_is_associative_and_keeps_what_only_one_side_knows():
    other = Profile(
        records=(NORM._replace(stack=("", "c")),), modules={"c": Module("c", "N")}, provenance={"torch": "2.14.0"}
    )
    left, right = (PROFILE + other) + PROFILE, PROFILE + (other + PROFILE)
    assert left.total == right.total
    assert left.by_module()["c"].arith == 30
    assert left.provenance == {"torch": "2.13.0, 2.14.0"}


def test_profiles_of_two_conventions_do_not_add_up():
    with pytest.raises(ConventionError, match=r"got 'fvcore' and 'torch'\. Call with_convention"):
        PROFILE + PROFILE.with_convention("torch")


def test_a_profile_is_no_number():
    with pytest.raises(TypeError):
        PROFILE + 1


def test_merging_keeps_one_row_for_each_key():
    assert merge([NORM, NORM, GRAD]) == (
        NORM._replace(calls=4, cost=Cost(0, 60, 0), bytes_written=48, bytes_read=2),
        GRAD,
    )


@pytest.mark.parametrize("indent", [None, 1])
def test_json_brings_back_what_was_written(indent):
    assert Profile.from_json(PROFILE.to_json(indent=indent)) == PROFILE


def test_a_profile_can_be_pickled_and_copied():
    assert pickle.loads(pickle.dumps(PROFILE)) == PROFILE  # noqa: S301
    assert copy.deepcopy(PROFILE) == PROFILE


def test_a_profile_is_frozen():
    with pytest.raises(AttributeError):
        PROFILE.records = ()


def always(_operator, _family):
    return True


def test_json_of_an_own_convention_says_what_to_do_when_it_is_read():
    own = PROFILE.with_convention(Convention("house rules", "", 3, always))
    with pytest.raises(ProfileFormatError, match="house rules"):
        Profile.from_json(own.to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the JSON that to_json"),
        ("{}", "expected a profile written by to_json"),
        ('{"format": "opcount.profile", "schema": "1"}', "expected schema 1 to 7, got '1'"),
        ('{"format": "opcount.profile", "schema": 8}', "Read the file with the opcount that wrote it"),
        (
            '{"format": "opcount.profile", "schema": 1, "modules": []}',
            "the profile is damaged: expected records among the keys",
        ),
    ],
)
def test_text_that_is_no_profile_is_refused(text, message):
    with pytest.raises(ProfileFormatError, match=message):
        Profile.from_json(text)


def test_the_parents_of_a_path():
    assert parents("") == [""]
    assert parents("a.b") == ["", "a", "a.b"]


def test_it_prints_as_a_table():
    assert "total: 300 MAC = 600 FLOP at 2 per MAC (330 FLOP under fvcore)" in str(PROFILE)
    assert "2 calls charged to the root: forward was not observed" in str(PROFILE)
