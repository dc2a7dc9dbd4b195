"""Devices: the table and its sources, the names that devices give themselves, errors, and a measured machine."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from opcount import Device
from opcount.devices import _TABLE, PEAK_NAMES, known_devices, peak_name
from opcount.errors import DeviceError
from opcount.machine import current_device

A100 = {"float64": 19.5e12, "float32": 19.5e12, "tf32": 156e12, "float16": 312e12, "bfloat16": 312e12, "int8": 624e12}


def test_every_device_has_a_source_a_peak_a_bandwidth_and_a_memory():
    for device in known_devices():
        assert device.source
        assert device.source != "same"
        assert device.memory >= 16e9
        assert 300e9 <= device.bandwidth <= 8e12
        assert device.peaks.keys() & {"float16", "bfloat16"}


def test_all_peaks_are_dense():
    # Sparse ones, which datasheets print, are twice as large: bfloat16 beside float32 of tensor cores tells them apart.
    assert Device.find("H100-SXM5-80GB").peak("bfloat16") == 989.4e12  # printed: 1979
    assert Device.find("A100-SXM4-80GB").peak("bfloat16") == 312e12  # printed: 624
    assert Device.find("L4").peak("float16") == 121e12  # printed: 242
    assert Device.find("H100-PCIe-80GB").peak("float16") == 756e12  # printed: 1513
    assert Device.find("L4").bandwidth == 300e9  # PyTorch's own table says 3350


def test_the_table_is_read_as_any_reader_of_toml_does():
    tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")
    entries = tomllib.loads(_TABLE.read_text())["device"]
    assert [
        (e["name"], e["peaks"], e["bandwidth"], e["memory"], e["source"], tuple(e["reports"])) for e in entries
    ] == [(d.name, d.peaks, d.bandwidth, d.memory, d.source, d.reports) for d in known_devices()]


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"),
        ("NVIDIA H100 PCIe", "H100-PCIe-80GB"),
        ("NVIDIA H100 NVL", "H100-NVL-94GB"),
        ("NVIDIA H200", "H200-SXM-141GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"),
        ("A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIe-80GB"),
        ("AMD Instinct MI300X", "MI300X"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("Tesla V100-SXM2-16GB", "V100-SXM2-16GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA L40S", "L40S"),
        ("H100-SXM5", "H100-SXM5-80GB"),
        ("h100 sxm", "H100-SXM5-80GB"),
        ("H200", "H200-SXM-141GB"),
        ("GB200", "GB200-1200W"),
        ("V100-SXM2", "V100-SXM2"),
        ("rtx 4090", "RTX4090"),
    ],
)
def test_a_device_is_found_by_the_name_it_gives_itself_or_by_its_beginning(reported, name):
    assert Device.find(reported).name == name


def test_a_device_is_found_by_each_of_its_names():
    for device in known_devices():
        for name in (device.name, *device.reports):
            assert Device.find(name) is device
    assert Device.find(device) is device


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H20",  # no H200
        "NVIDIA H200 NVL",
        "NVIDIA H800",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",  # a slice of a device
        "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "AMD Instinct MI300A",
        "Tesla V100-SXM3-32GB",
        "NVIDIA GH200 480GB",
        "NVIDIA L20",
        "A1",
        "Apple M3 Max",
        "cpu",
        "",
        "NVIDIA",
    ],
)
def test_an_unknown_device_is_an_error_that_says_how_to_give_its_peaks(name):
    with pytest.raises(DeviceError, match=r"Device\(name=.*peaks=.*bandwidth=.*opcount device --measure") as caught:
        Device.find(name)
    assert repr(name) in str(caught.value)


def test_an_unknown_device_is_told_near_names():
    with pytest.raises(DeviceError, match=r"Near names: .*H100-SXM5-80GB"):
        Device.find("NVIDIA H800")


@pytest.mark.parametrize(("name", "several"), [("H100", 3), ("A100-SXM4", 2), ("A100", 3), ("TPU", 4), ("V100", 4)])
def test_the_beginning_of_several_names_is_refused_with_all_of_them(name, several):
    with pytest.raises(DeviceError, match="expected one device") as caught:
        Device.find(name)
    assert str(caught.value).count(f"{name}-") == several


@pytest.mark.parametrize("name", [None, 7, torch.device("cpu")])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(DeviceError, match="expected the name of a device, got"):
        Device.find(name)


@pytest.mark.parametrize("peak", [0, -1e12, float("nan"), float("inf"), None, "989e12", True, 1e12j])
def test_a_peak_or_a_bandwidth_that_is_no_positive_number_is_refused(peak):
    with pytest.raises(DeviceError, match="expected a positive number as peak of bfloat16, got"):
        Device(name="d", peaks={"bfloat16": peak}, bandwidth=1e12)
    with pytest.raises(DeviceError, match="expected a positive number as bandwidth, got"):
        Device(name="d", peaks={"bfloat16": 1e12}, bandwidth=peak)
    with pytest.raises(DeviceError, match="expected a positive number as peak of float32, got"):
        Device.find("L4").with_peaks({"float32": peak})


def test_a_rate_in_another_unit_is_refused():
    with pytest.raises(DeviceError, match=r"in FLOP/s, such as 989.4e12 for 989.4 TFLOP/s, got 989.4"):
        Device(name="d", peaks={"bfloat16": 989.4}, bandwidth=1e12)
    with pytest.raises(DeviceError, match=r"in bytes/s, such as 3.35e12 for 3.35 TB/s, got 3350"):
        Device(name="d", peaks={"bfloat16": 1e12}, bandwidth=3350)
    with pytest.raises(DeviceError, match=r"memory in bytes, such as 80e9 for 80 GB, got 80"):
        Device(name="d", peaks={"bfloat16": 1e12}, bandwidth=1e12, memory=80)


@pytest.mark.parametrize("peaks", [{}, None, 1e12, ["bfloat16"]])
def test_a_device_without_peaks_is_refused(peaks):
    with pytest.raises(DeviceError, match="expected peaks by dtype, got"):
        Device(name="d", peaks=peaks, bandwidth=1e12)


def test_two_peaks_of_one_dtype_are_refused():
    with pytest.raises(DeviceError, match=r"expected one peak of bfloat16, got 1e.12 and 2e.12"):
        Device(name="d", peaks={"bf16": 1e12, torch.bfloat16: 2e12}, bandwidth=1e12)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_device_without_a_name_is_refused(name):
    with pytest.raises(DeviceError, match="expected a name, got"):
        Device(name=name, peaks={"bfloat16": 1e12}, bandwidth=1e12)


@pytest.mark.parametrize(
    ("dtype", "peak"),
    [
        ("bfloat16", 1e12),
        (torch.bfloat16, 1e12),
        ("torch.bfloat16", 1e12),
        ("torch.bcomplex32", 1e12),
        (torch.complex64, 2e12),
        ("float32", 2e12),
        (torch.float8_e4m3fn, 3e12),
        (torch.float8_e5m2, 3e12),
        (torch.uint8, 4e12),
        (torch.qint8, 4e12),
    ],
)
def test_a_dtype_has_the_peak_of_its_kind(dtype, peak):
    device = Device(name="d", peaks={"bf16": 1e12, "fp32": 2e12, "fp8": 3e12, "int8": 4e12}, bandwidth=1e12)
    assert device.peak(dtype) == peak
    assert device.has_peak(dtype)


def test_a_dtype_without_a_peak_is_an_error_that_says_how_to_add_it():
    t4 = Device.find("T4")
    assert not t4.has_peak("bfloat16")
    with pytest.raises(DeviceError, match=r"T4: .*float32, float16, int8\), got 'bfloat16'.*with_peaks\(\{'bfloat16'"):
        t4.peak(torch.bfloat16)
    assert t4.with_peaks({"bf16": 65e12}).peak("bfloat16") == 65e12
    with pytest.raises(DeviceError, match=r"got 'floot16' of type str. Did you mean 'float16'"):
        t4.peak("floot16")
    assert not t4.has_peak("bool")


def test_every_floating_point_dtype_of_pytorch_has_a_kind():
    for dtype in (d for d in vars(torch).values() if isinstance(d, torch.dtype)):
        if dtype.is_floating_point or dtype.is_complex:
            assert peak_name(dtype) in PEAK_NAMES


def test_a_device_is_copied_pickled_hashed_and_compared():
    device = Device.find("L4")
    assert pickle.loads(pickle.dumps(device)) == copy.deepcopy(device) == device  # noqa: S301  (just written)
    assert len({device, copy.copy(device), Device.find("T4")}) == 2


def test_a_device_is_written_to_a_file_and_read_back(tmp_path):
    device = Device(name='my "device"', peaks={"fp32": 123.456e9, "tf32": 1e12}, bandwidth=7e9, memory=16e9, source="a")
    file = tmp_path / "here.toml"
    file.write_text(f"# a comment\n{device.to_toml()}\n")
    assert Device.find(str(file)) == device


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[device]]\nname = 'single quotes'\n", "line 2 of here.toml, got \"name = 'single quotes'\""),
        ('[[device]]\nname = "d"\nbandwidth = 1e12\n', "expected peaks by dtype, got"),
        ('[[device]]\nname = "d"\n[device.peaks]\nfloat32 = 1e12\n', "expected name, peaks and bandwidth"),
        ('[[device]]\nname = "d"\ncolour = 3\n', "expected name, peaks and bandwidth.*colour"),
        ("[device.peaks]\n", "line 1 of here.toml"),
        ("", "expected one device in .*got 0"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "here.toml").write_text(text)
    with pytest.raises(DeviceError, match=message):
        Device.find(str(tmp_path / "here.toml"))
    with pytest.raises(DeviceError, match="cannot be read"):
        Device.find(str(tmp_path / "absent.toml"))


def pretend_cuda(monkeypatch, name, memory=85_000_000_000):
    class Properties:
        total_memory = memory

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: name)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: Properties)
    monkeypatch.setattr("opcount.machine._where", lambda device: torch.device("cuda"))


def test_the_current_device_is_found_by_its_name_and_has_the_memory_that_it_has(monkeypatch):
    pretend_cuda(monkeypatch, "NVIDIA H100 80GB HBM3")
    device = Device.current()
    assert (device.name, device.memory) == ("H100-SXM5-80GB", 85_000_000_000)


@pytest.mark.parametrize("name", ["NVIDIA H100", "NVIDIA H800", "NVIDIA A100-SXM4", "GB200 SXM"])
def test_a_current_device_is_never_guessed_from_a_part_of_its_name(monkeypatch, name):
    pretend_cuda(monkeypatch, name)
    with pytest.raises(DeviceError, match=f"got '{name}'"):
        Device.current()


def test_a_cpu_is_unknown_and_the_error_says_how_to_measure_it():
    with pytest.raises(DeviceError, match="opcount device --measure --device cpu"):
        current_device("cpu")
    with pytest.raises(DeviceError, match="expected a device of PyTorch that computes, got 'meta'"):
        current_device("meta")
    with pytest.raises(DeviceError, match="expected a device of PyTorch that computes, got 'abacus'"):
        current_device("abacus")


def test_a_measured_device_says_so_and_leaves_no_trace(monkeypatch):
    monkeypatch.setattr("opcount.machine._SIZES", (64,))
    monkeypatch.setattr("opcount.machine._ARRAY", 1 << 20)
    state, precision = torch.get_rng_state(), torch.get_float32_matmul_precision()
    device = Device.measure("cpu")
    assert device.source.startswith(f"measured with PyTorch {torch.__version__}, 1 thread")
    assert {"float64", "float32", "bfloat16"} <= device.peaks.keys()
    assert all(1e6 < rate < 1e15 for rate in (*device.peaks.values(), device.bandwidth))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_float32_matmul_precision() == precision


def test_the_fastest_of_a_copy_a_sum_and_a_reduction_is_the_bandwidth(monkeypatch):
    monkeypatch.setattr("opcount.machine._ARRAY", 1 << 20)
    monkeypatch.setattr("opcount.machine._least_seconds", lambda *_: 0.5)
    monkeypatch.setattr("opcount.machine._SIZES", (64,))
    device = Device.measure("cpu")
    assert device.bandwidth == 3 * (1 << 20) / 0.5  # two arrays read, one written
    convolution = 2 * (8 * 56 * 56) * 64 * (64 * 3 * 3) / 0.5  # more than a small product in the same time
    assert device.peaks["float32"] == convolution
    monkeypatch.setattr("opcount.machine._convolution_rate", lambda *_: 0.0)
    assert Device.measure("cpu").peaks["float32"] == 2 * 64**3 / 0.5  # two operations for each multiply-accumulate
