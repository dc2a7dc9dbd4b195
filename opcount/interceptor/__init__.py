"""Sees every operator that runs, decides once how to price it, and charges it to the scope."""

from opcount.interceptor.mode import Interceptor
from opcount.interceptor.observe import observe
from opcount.interceptor.paused import PassThrough
from opcount.interceptor.per_thread import ThreadInterceptors
from opcount.interceptor.plan import Plan
from opcount.interceptor.planner import Planner
from opcount.interceptor.recall import Recall
from opcount.interceptor.surroundings import fused_attention_disabled
from opcount.interceptor.whole_calls import Call, whole_calls

__all__ = [
    "Call",
    "Interceptor",
    "PassThrough",
    "Plan",
    "Planner",
    "Recall",
    "ThreadInterceptors",
    "fused_attention_disabled",
    "observe",
    "whole_calls",
]
