"""``opcount device``: the list, one device, and a measured machine."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from opcount import Device, Profile, count
from opcount.devices import known_devices
from opcount.reporter import terminal
from opcount.roofline import duration
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


@pytest.fixture
def stored(opcount, write, tmp_path):
    file = tmp_path / "profile.json"
    assert opcount("count", f"{write(NET)}:Net", "-o", file)[0] == 0
    return file


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
    status, _, err = opcount("count", f"{write(NET)}:Net", "--on", "L4", "--format", "folded")
    assert status == 0
    assert "opcount: --on has no effect with --format folded (only with table, tree, operators, markdown" in err
    status, out, err = opcount("count", f"{write(NET)}:Net", "--on", "H800")
    assert (status, out) == (2, "")
    assert "expected a device with known peaks, got 'H800'" in err


@pytest.mark.parametrize("name", ["table", "tree", "operators", "markdown", "latex", "html"])
def test_every_format_of_words_shows_the_times_of_a_device(opcount, stored, name):
    status, out, err = opcount("show", stored, "--on", "T4", "--format", name)
    assert (status, err) == (0, "")
    profile = Profile.from_json(stored.read_text())
    roofline = profile.on("T4")
    assert f"eager roofline time: {duration(roofline.seconds)}" in out.replace("\\", "")
    assert "every dtype has a peak on T4" in out
    if name != "html":  # which draws by a script
        floor = roofline.by_operator()["aten.addmm.default", "float32"]
        shown = out.replace(f"eager roofline time: {duration(roofline.seconds)}", "")
        assert duration(floor.seconds if name == "operators" else roofline.seconds) in shown


def test_csv_has_the_time_of_each_record(opcount, stored):
    status, out, _ = opcount("show", stored, "--on", "T4", "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    profile = Profile.from_json(stored.read_text())
    floors = list(map(profile.on("T4").floor, profile.records))
    assert status == 0
    assert [float(row["time_floor_seconds"]) for row in rows] == [floor.seconds for floor in floors]
    assert [row["bound"] for row in rows] == [floor.bound for floor in floors]


def test_json_has_the_roofline_beside_a_profile_that_is_read_as_before(opcount, stored):
    status, out, _ = opcount("show", stored, "--on", "T4", "--format", "json")
    profile = Profile.from_json(stored.read_text())
    assert (status, Profile.from_json(out)) == (0, profile)
    found, roofline = json.loads(out)["roofline"], profile.on("T4")
    assert found["device"]["name"] == "T4"
    assert found["total"] == {**roofline.total._asdict(), "bound": roofline.bound}
    assert found["speed_of_light"] == roofline.speed_of_light
    assert {path: floor["seconds"] for path, floor in found["modules"].items()} == {
        path: floor.seconds for path, floor in roofline.by_module().items()
    }
    assert len(found["records"]) == len(profile.records)


def test_columns_of_a_device_stand_beside_others_and_need_one(opcount, stored):
    status, out, _ = opcount("show", stored, "--on", "T4", "--columns", "params,floor,bound", "--sort", "macs")
    assert status == 0
    assert out.splitlines()[0].split("  ")[0] == "module"
    assert out.splitlines()[0].split()[1:] == ["params", "time", "floor", "bound"]
    status, out, err = opcount("show", stored, "--columns", "params,floor")
    assert (status, out) == (2, "")
    assert "columns: expected a device beside floor, got none. Name one with --on." in err


def test_equal_blocks_share_a_line_with_the_time_of_all(opcount, tmp_path):
    net = torch.nn.Sequential(*(torch.nn.Linear(64, 64, bias=False) for _ in range(4)))
    profile = count(net, torch.ones(8, 64))
    stored = tmp_path / "profile.json"
    profile.save(stored)
    _, out, _ = opcount("show", stored, "--on", "T4", "--format", "markdown")
    (line,) = [line for line in out.splitlines() if "0-3 x4" in line]
    assert duration(profile.on("T4").seconds) in line
    assert "100.0 %" in line


def test_totals_on_the_terminal_beside_a_file_are_those_of_the_device_too(opcount, stored, tmp_path):
    status, out, _ = opcount("show", stored, "--on", "T4", "-o", tmp_path / "report.html")
    assert status == 0
    assert "eager roofline time" in out


def test_a_terminal_shows_times_with_bars(stored):
    profile = Profile.from_json(stored.read_text())
    text = terminal.render(profile, width=120, roofline=profile.on("T4"))
    assert "time floor" in text
    assert duration(profile.on("T4").seconds) in text
    assert "\u2588" in text


def test_a_comparison_as_a_page_is_on_a_device_and_other_formats_say_that_they_are_not(opcount, stored, tmp_path):
    page = tmp_path / "diff.html"
    assert opcount("diff", stored, stored, "--on", "T4", "-o", page)[0] == 0
    assert "eager roofline time" in page.read_text()
    status, _, err = opcount("diff", stored, stored, "--on", "T4")
    assert (status, err) == (0, "opcount: --on has no effect with --format table (only with html).\n")
