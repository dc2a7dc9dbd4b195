"""A count on a device: floors of operators, modules and phases against their arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opcount import Device, OpCounter, Profile
from opcount.errors import DeviceError
from opcount.roofline import Floor

DEVICE = Device(name="toy", peaks={"float32": 1e9, "float64": 0.5e9}, bandwidth=1e9)  # ridge: 1 FLOP a byte
RIDGELESS = Device(name="wide", peaks={"float32": 1e9}, bandwidth=1e15)


def product(n, dtype=torch.float32):
    a, b = torch.ones(n, n, dtype=dtype), torch.ones(n, n, dtype=dtype)
    with OpCounter() as c:
        a @ b
    return c


def test_a_product_takes_its_arithmetic_where_that_is_longer():
    roofline = product(64).on(DEVICE)
    arithmetic, traffic = 2 * 64**3 / 1e9, 3 * 64 * 64 * 4 / 1e9
    assert roofline.total == Floor(arithmetic, arithmetic, traffic, arithmetic)
    assert (roofline.seconds, roofline.bound) == (arithmetic, "compute")


def test_a_product_takes_its_traffic_where_that_is_longer():
    roofline = product(4).on(DEVICE)
    arithmetic, traffic = 2 * 4**3 / 1e9, 3 * 4 * 4 * 4 / 1e9
    assert roofline.total == Floor(traffic, arithmetic, traffic, 0)
    assert roofline.bound == "memory"


def test_the_whole_is_the_sum_of_the_longer_times_and_not_the_longer_of_the_sums():
    a, x = torch.ones(64, 64), torch.ones(10_000)
    with OpCounter() as c:
        a @ a
        x + x
    roofline = c.on(DEVICE)
    arithmetic, added = 2 * 64**3 / 1e9, 2 * 10_000 * 4 / 1e9  # x is read once, though it is both operands
    assert roofline.seconds == pytest.approx(arithmetic + added)
    assert roofline.total.compute == pytest.approx(arithmetic)
    assert {name: floor.bound for (name, _), floor in roofline.by_operator().items()} == {
        "aten.mm.default": "compute",
        "aten.add.Tensor": "memory",
    }
    assert [roofline.share(floor) for floor in roofline.by_operator().values()] == pytest.approx(
        [arithmetic / (arithmetic + added), added / (arithmetic + added)]
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(64, 64, bias=False)
        self.act = nn.ReLU()
        self.body = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 2, bias=False))

    def forward(self, x):
        return self.body(self.act(self.wide(x)))


def trained():
    model = Net()
    with OpCounter(model) as c:
        model(torch.ones(128, 64)).sum().backward()
    return c


def test_floors_of_modules_phases_and_operators_add_up():
    c = trained()
    roofline = c.on(DEVICE)
    for view in (roofline.by_phase(), roofline.by_operator()):
        assert sum(floor.seconds for floor in view.values()) == pytest.approx(roofline.seconds)
    assert list(roofline.by_phase()) == ["forward", "backward"]
    modules = roofline.by_module()
    assert modules[""].seconds == pytest.approx(roofline.seconds)
    assert modules["body"].seconds == pytest.approx(modules["body.0"].seconds + modules["body.1"].seconds)
    assert (modules["wide"].bound, modules["act"].bound) == ("compute", "memory")
    assert modules.keys() == c.by_module().keys()
    assert sum(map(roofline.floor, c.profile.records), Floor()) == roofline.total


def test_a_module_that_never_ran_takes_no_time_and_is_bound_by_nothing():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    with OpCounter(model) as c:
        model[0](torch.ones(2, 2))
    assert c.on(DEVICE).by_module()["1"] == Floor()
    assert Floor().bound == ""


def test_views_take_no_time():
    x = torch.ones(100, 100)
    with OpCounter() as c:
        x[:, :1].t().view(-1)
    assert c.on(DEVICE).seconds == 0


def test_the_speed_of_light_moves_parameters_inputs_and_outputs_once():
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False))
    with OpCounter(model) as c:
        model(torch.ones(2, 8))
    moved = 4 * (8 * 16 + 16 * 4 + 2 * 8 + 2 * 4)
    assert c.on(Device(name="d", peaks={"float32": 1e15}, bandwidth=1e9)).speed_of_light == moved / 1e9
    assert c.on(RIDGELESS).speed_of_light == pytest.approx(2 * c.macs / 1e9)


def test_the_speed_of_light_does_not_move_rows_that_no_operator_reads():
    model = nn.Embedding(100_000, 8)
    with OpCounter(model) as c:
        model(torch.tensor([3]))
    roofline = c.on(DEVICE)
    assert 0 < roofline.speed_of_light <= roofline.seconds < 1000 / 1e9  # the table is 3.2 MB


@pytest.mark.parametrize("count", [trained, lambda: product(64), lambda: product(2)])
def test_the_speed_of_light_is_never_slower_than_the_eager_time(count):
    for device in (DEVICE, RIDGELESS, "H100-SXM5", "L4"):
        roofline = count().on(device)
        assert roofline.speed_of_light <= roofline.seconds * (1 + 1e-12)


def test_what_has_no_peak_is_named_and_costs_its_traffic():
    double = torch.ones(8, 8, dtype=torch.float64)
    with OpCounter() as c:
        torch.ones(8, 8) @ torch.ones(8, 8)
        double @ double
        torch.arange(8) + 1
    roofline = c.on(RIDGELESS)
    assert roofline.without_peak == {("aten.mm.default", "float64"): 1}
    assert roofline.verdict() == (
        "no peak on wide, so that only their traffic counts and times are lower bounds: aten.mm.default in float64 "
        "(1 call)"
    )
    assert roofline.verdict() in str(roofline)
    assert roofline.total.compute == 2 * 8**3 / 1e9
    assert c.on(DEVICE).without_peak == {}


def test_each_dtype_has_its_own_peak():
    assert product(64, torch.float64).on(DEVICE).seconds == 2 * 64**3 / 0.5e9
    assert product(64, torch.complex64).on(DEVICE).seconds == 4 * 2 * 64**3 / 1e9  # four real products


def test_a_decode_step_is_bound_by_memory_and_a_large_batch_by_compute():
    layer = nn.Linear(4096, 4096, bias=False, dtype=torch.bfloat16)
    for rows, bound in ((1, "memory"), (4096, "compute")):
        x = torch.ones(rows, 4096, dtype=torch.bfloat16)
        with OpCounter(layer, dry_run=True) as c:
            layer(x)
        roofline = c.on("H100-SXM5")
        assert roofline.bound == bound
        traffic = 2 * (4096 * 4096 + 2 * rows * 4096) / 3.35e12
        assert roofline.seconds == pytest.approx(max(2 * rows * 4096 * 4096 / 989.4e12, traffic))


def test_a_stored_profile_has_the_same_floors():
    profile = trained().profile
    assert Profile.from_json(profile.to_json()).on("A100-SXM4-80GB").total == profile.on("A100-SXM4-80GB").total


def test_an_unknown_device_is_refused():
    with pytest.raises(DeviceError, match="expected a device with known peaks, got 'H800'"):
        trained().on("H800")


def test_an_empty_count_has_a_roofline():
    roofline = Profile().on(DEVICE)
    assert (roofline.seconds, roofline.speed_of_light, roofline.bound, roofline.by_phase()) == (0, 0, "", {})
    assert str(roofline).splitlines()[0] == "eager roofline time: 0 s (0 % bound by compute); speed of light: 0 s"
