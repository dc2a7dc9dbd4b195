"""``opcount device``: the list, one device, and a measured machine."""

from __future__ import annotations

import pytest

from opcount import Device
from opcount.devices import known_devices
from tests.cli.test_count import NET


def test_the_list_has_every_device_with_its_peaks(opcount):
    status, out, err = opcount("device")
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert {device.name for device in known_devices()} <= {row[0] for row in rows if row}
    header = next(row for row in rows if row[0] == "device")
    h100 = dict(zip(header, next(row for row in rows if row and row[0] == "H100-SXM5-80GB"), strict=True))
    assert (h100["bfloat16"], h100["bandwidth"], h100["memory"], h100["float4"]) == ("989.4", "3350", "80", "-")


def test_one_device_is_shown_with_its_source(opcount):
    status, out, _ = opcount("device", "NVIDIA H100 80GB HBM3")
    assert status == 0
    assert 'name = "H100-SXM5-80GB"' in out
    assert "bfloat16 = 989.4e12" in out
    assert "NVIDIA Hopper whitepaper" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("H800",), "expected a device with known peaks, got 'H800'"),
        (("H100",), "any of H100-SXM5-80GB"),
        (("L4", "--measure"), "expected a name or --measure"),
        (("--device", "cpu"), "Add --measure"),
        (("--measure", "--device", "meta"), "expected a device of PyTorch that computes"),
    ],
)
def test_a_wrong_command_line_says_what_to_do(opcount, arguments, message):
    status, out, err = opcount("device", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_a_measured_machine_is_written_to_a_file_that_is_a_device(opcount, tmp_path, monkeypatch):
    monkeypatch.setattr("opcount.machine._SIZES", (64,))
    monkeypatch.setattr("opcount.machine._ARRAY", 1 << 20)
    file = tmp_path / "here.toml"
    assert opcount("device", "--measure", "--device", "cpu", "-o", file) == (0, "", "")
    assert Device.find(str(file)).source.startswith("measured")


def test_a_count_on_a_device_shows_floors_and_what_bounds_them(opcount, write, tmp_path):
    stored = tmp_path / "profile.json"
    target = f"{write(NET)}:Net"
    assert opcount("count", target, "-o", stored)[0] == 0
    for command in (("count", target), ("show", stored)):
        status, out, err = opcount(*command, "--on", "H100-SXM5")
        assert (status, err.replace("noise\n", "")) == (0, "")  # which the model prints
        header = out.splitlines()[0].split("  ")
        assert [cell.strip() for cell in header if cell.strip()] == [
            "module", "type", "FLOPs (torch)", "traffic", "FLOP/B", "bound", "time floor", "% time",
        ]  # fmt: skip
        assert "eager roofline time: " in out
        assert "device: H100-SXM5-80GB (float32 66.9 TFLOP/s, 3.35 TB/s; https" in out
        assert "peaks: every dtype has a peak on H100-SXM5-80GB" in out
    status, out, _ = opcount("show", stored, "--on", "TPU-v4", "--format", "operators")
    assert "no peak on TPU-v4" in out
    assert "aten.addmm.default" in out


def test_a_format_without_floors_says_so_and_an_unknown_device_is_refused(opcount, write):
    status, _, err = opcount("count", f"{write(NET)}:Net", "--on", "L4", "--format", "tree")
    assert (status, err.replace("noise\n", "")) == (
        0,
        "opcount: --on has no effect with --format tree (only with table, operators).\n",
    )
    status, out, err = opcount("count", f"{write(NET)}:Net", "--on", "H800")
    assert (status, out) == (2, "")
    assert "expected a device with known peaks, got 'H800'" in err
