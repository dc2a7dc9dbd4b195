"""Stored profiles from outside bring back what was stored, or are refused with what is wrong, and where."""

import copy
import json
import random
from dataclasses import fields

import pytest

from opcount.cost import Cost
from opcount.errors import ProfileFormatError
from opcount.profile import Module, Profile, Record
from opcount.steps import Amount, Spread, Steps

RECORDS = (
    Record(
        ("", "a"), "aten.mm.default", "matmul", "forward", "float32", 3, Cost(24, 2, 8), 32, "(2x3, 3x4) -> 2x4", 72
    ),
    Record(("", "a", "b"), "my.op", "uncounted", "mine", "", 1, Cost(), 0, ""),
)
MODULES = {"": Module("", "Net", 12, 1), "a": Module("a", "Linear", 12, 3, ("c", "d"), 10, 48, "3x3", "2x3", "2x4")}
WHOLE = Amount(RECORDS, {"a": 30}, {"nobody knows": 2})
STEPS = Steps(10, 3, 1, Spread(Cost(9, 9, 9), Cost(1, 2, 3), Cost(10, 10, 10)), WHOLE, Cost(1, 1, 0))
PLAIN = Profile(
    RECORDS,
    MODULES,
    provenance={"torch": "2.13.0"},
    unattributed={"nobody knows": 1},
    formulas={"aten.mm.default": "``a @ b``"},
)
SAMPLE = Profile(**{field.name: getattr(PLAIN, field.name) for field in fields(PLAIN)} | {"steps": STEPS})

WRONG = [
    None, True, False, -1, 10**101, 1.0, 1.5, float("nan"), float("inf"), float("-inf"), "24", "", "x", [], [24], [[]],
    {}, {"": 1}, {"macs": 1, "arith": 0, "activations": 0}, ["", "a"], [None],
]  # fmt: skip


def damaged(data, damages):
    """Yield for every place in data, and every damage, the place and the data with the damage."""

    def walk(at, path):
        for key in list(at) if isinstance(at, dict) else range(len(at)):
            yield at, key, (*path, key)
            if isinstance(at[key], (dict, list)):
                yield from walk(at[key], (*path, key))

    for at, key, path in list(walk(data, ())):
        for damage in damages:
            yield path, damage, at, key


def is_sound(profile):
    """Return whether all that is counted is a count, and all that is named a name."""
    whole = [] if profile.steps is None or profile.steps.whole is None else profile.steps.whole.records
    records = [*profile.records, *whole]
    counts = [n for r in records for n in (r.calls, *r.cost, r.bytes)]
    counts += [n for m in profile.modules.values() for n in (m.params, m.calls, m.trainable, m.param_bytes)] + [
        *profile.unattributed.values()
    ]
    names = [n for r in records for n in (*r.stack, r.operator, r.family, r.phase, r.dtype, r.shapes)]
    names += [n for m in profile.modules.values() for n in (m.path, m.type, *m.aliases, m.kernel, m.inputs, m.outputs)]
    names += [*profile.provenance.values(), *profile.formulas.values()]
    return all(type(n) is int and n >= 0 for n in counts) and all(type(n) is str for n in names)


@pytest.mark.parametrize("profile", [PLAIN, SAMPLE, SAMPLE.extrapolated(), Profile()])
def test_a_profile_comes_back_as_it_was(profile):
    assert Profile.from_json(profile.to_json()) == profile
    assert Profile.from_json(f"\ufeff{profile.to_json(indent=2)}\n") == profile


def test_a_wrong_value_anywhere_is_refused_with_its_place():
    data, tried, accepted = json.loads(SAMPLE.to_json()), 0, 0
    for path, wrong, at, key in damaged(data, WRONG):
        before = at[key]
        at[key] = copy.deepcopy(wrong)
        text = json.dumps(data)
        at[key] = before
        tried += 1
        try:
            profile = Profile.from_json(text)
        except ProfileFormatError as error:
            assert "Write the file again." in str(error) or path[0] in {"format", "schema"}  # noqa: PT017
            continue
        assert is_sound(profile), (path, wrong)
        assert profile.to_json() == text, (path, wrong)
        accepted += 1
    assert tried > 1500
    assert accepted < tried / 8  # other names, and empty lists


def test_a_key_that_is_missing_or_renamed_anywhere_is_refused():
    data, tried = json.loads(SAMPLE.to_json()), 0
    free = {"provenance", "unattributed", "formulas", "calls"}
    for path, new, at, key in damaged(data, [None, "other"]):
        if not isinstance(at, dict) or (len(path) > 1 and path[-2] in free):
            continue
        before = dict(at)
        value = at.pop(key)
        if new:
            at[new] = value
        tried += 1
        with pytest.raises(ProfileFormatError):
            Profile.from_json(json.dumps(data))
        at.clear()
        at.update(before)
    assert tried > 100


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"macs": 24', '"macs": -5', r"expected a whole number .* at records\[0\]\.cost\.macs, got -5 of type int"),
        ('"macs": 24', '"macs": NaN', r"at records\[0\]\.cost\.macs, got nan of type float"),
        ('"calls": 3', '"calls": "3"', r"at modules\[1\]\.calls, got '3' of type str"),
        ('["", "a", "b"]', '["", 1]', r"expected a string at records\[1\]\.stack\[1\], got 1 of type int"),
        ('["", "a", "b"]', "[]", r"expected a list of at least 1 at records\[1\]\.stack"),
        ('"params": 12', '"parms": 12', r"expected params among the keys at modules\[0\]"),
        ('"type": "Net"', '"type": "Net", "new": 1', r"expected no other keys than .* at modules\[0\], got 'new'"),
        ('"path": "a"', '"path": ""', "expected each path once at modules, got ''"),
        ('"nobody knows": 1', '"nobody knows": -1', r"at unattributed\['nobody knows'\], got -1"),
        ('"convention": "fvcore"', '"convention": "mine"', "expected one of the conventions 'fvcore', .* got 'mine'"),
        ('"measured": 3', '"measured": 30', "expected no more measured steps than 10 at steps, got 30"),
        ('"least": {"macs": 1,', '"least": {"macs": 99,', r"no more in least than in most at steps\.spread"),
        ('"schema": 4', '"schema": 3', "expected none in a file of this schema at steps"),
        ('"schema": 4', '"schema": true', "expected schema 1 to 7, got True"),
        ('"schema": 4', '"schema": 4.0', r"expected schema 1 to 7, got 4\.0"),
        ('"macs": 24', '"macs": 24, "macs": 5', "the key 'macs' twice in one object"),
        ('"macs": 24', '"macs": ' + "9" * 5000, "expected the JSON that"),
    ],
)
def test_a_damage_is_named(old, new, message):
    text = SAMPLE.to_json()
    assert old in text
    with pytest.raises(ProfileFormatError, match=message):
        Profile.from_json(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "[]",
        "0",
        '"x"',
        "[" * 10**6,
        '{"a":' * 10**5,
        "\x00",
        "\ufeff",
        b"\xff\xfe\x00",
        None,
        3,
        ["x"],
    ],
)
def test_what_is_no_profile_at_all_is_refused(text):
    with pytest.raises(ProfileFormatError, match="expected"):
        Profile.from_json(text)


def test_a_file_that_was_cut_off_or_of_which_a_byte_flipped_is_refused_or_the_same_kind_of_thing():
    text, draw = SAMPLE.to_json(), random.Random(0)
    for end in range(0, len(text), 7):
        with pytest.raises(ProfileFormatError):
            Profile.from_json(text[:end])
    for _ in range(3000):
        place = draw.randrange(len(text))
        hurt = text[:place] + chr(draw.randrange(256)) + text[place + 1 :]
        try:
            profile = Profile.from_json(hurt)
        except ProfileFormatError:
            continue
        assert is_sound(profile)


@pytest.mark.parametrize(
    "name", ["a\nb", "\u2028", "\ud800", "\x00", "\x1b[31m", "\u202e", "(model)", 'q"\\', "=1", ""]
)
def test_any_name_comes_back_as_it_was(name):
    record = RECORDS[0]._replace(stack=("", name), operator=name, phase=name, shapes=name)
    profile = Profile((record,), {name: Module(name, name, aliases=(name,))}, provenance={name: name})
    assert Profile.from_json(profile.to_json()) == profile


def of_older_schema(profile: Profile) -> str:
    """Return a file as versions wrote it that did not count the bytes read, nor looked at calls of modules."""
    data = json.loads(profile.to_json())
    data["schema"] -= 2
    for records in (data["records"], data.get("steps", {}).get("extrapolated", {}).get("records", [])):
        for record in records:
            record["bytes"] = record.pop("bytes_written")
            for name in ("bytes_read", "repeated", "causal"):
                del record[name]
    for module in data["modules"]:
        module.pop("weights", None)
        for name in ("trainable", "param_bytes", "kernel", "inputs", "outputs"):
            del module[name]
    return json.dumps(data)


@pytest.mark.parametrize("profile", [PLAIN, SAMPLE])
def test_a_file_without_the_bytes_read_is_read_and_says_so(profile):
    old = Profile.from_json(of_older_schema(profile))
    assert (old.macs, old.bytes_written, old.total.bytes) == (24, 32, 32)
    for read in (old, Profile.from_json(old.to_json()), old + profile, profile + old, old.extrapolated()):
        assert not read.knows_traffic
        for name in ("bytes_read", "arithmetic_intensity"):
            with pytest.raises(ProfileFormatError, match=r"an older opcount wrote it\. Count again\."):
                getattr(read, name)
    assert (profile.bytes_read, profile.arithmetic_intensity) == (72, 48 / 104)


@pytest.mark.parametrize(("profile", "schema"), [(PLAIN, 1), (SAMPLE, 2)])
def test_a_file_of_an_older_schema_knows_less_of_its_modules(profile, schema):
    text = of_older_schema(profile)
    assert json.loads(text)["schema"] == schema
    assert Profile.from_json(text).modules["a"] == Module("a", "Linear", 12, 3, ("c", "d"))
