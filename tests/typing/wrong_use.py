"""Wrong uses of the public names: mypy reports each, for it reports an ``ignore`` that nothing needs as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from opcount import Budget, Cost, OpCounter, Profile, flop_budget, formula, get_model_complexity_info

    OpCounter("resnet50")  # type: ignore[arg-type]  # a model, not its name
    OpCounter(None, "full", True)  # type: ignore[call-arg]  # options by name
    OpCounter(dryrun=True)  # type: ignore[call-arg]  # dry_run
    OpCounter().macs = 3  # type: ignore[misc]  # counts are read
    OpCounter().by_modules()  # type: ignore[attr-defined]  # by_module
    OpCounter().explain(3)  # type: ignore[arg-type]  # a path
    OpCounter().flops()  # type: ignore[operator]  # a property

    def read(profile: Profile) -> None:
        profile.records = ()  # type: ignore[misc]  # frozen
        profile.by_module("parents")  # type: ignore[arg-type]  # "owner" or "caller"
        profile + profile.flops  # type: ignore[operator]  # a profile
        profile.diff(profile.to_json())  # type: ignore[arg-type]  # a profile

    @flop_budget("4.2 GMAC")
    def forward(rows: int) -> torch.Tensor: ...

    forward("2")  # type: ignore[arg-type]  # the decorated function's own types
    forward(2).macs  # type: ignore[attr-defined]  # noqa: B018  # a tensor
    flop_budget("4.2 GMAC", maximum="5 GMAC")  # type: ignore[call-arg]  # max
    flop_budget("4.2 GMAC", rtol="1 %")  # type: ignore[arg-type]  # a number
    flop_budget(4.2)  # type: ignore[arg-type]  # a limit has a unit
    Budget.of(4.2)  # type: ignore[arg-type]

    Cost("3")  # type: ignore[arg-type]  # numbers
    Cost(flops=3)  # type: ignore[call-arg]  # a convention reads FLOPs

    @formula("mylib::f")  # type: ignore[type-var]  # a formula returns a Cost
    def price(out: torch.Tensor) -> int:
        return out.numel()

    get_model_complexity_info(3, (3, 224, 224))  # type: ignore[arg-type]  # a model
    get_model_complexity_info(torch.nn.ReLU(), (3,), dryrun=True)  # type: ignore[call-arg]
