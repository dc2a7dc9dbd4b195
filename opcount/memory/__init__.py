"""Live memory: which storages are alive, who made them, and what the peak consists of."""

from opcount.memory.prediction import check_shared, predicted_device
from opcount.memory.watch import MemoryWatch, required

__all__ = ["MemoryWatch", "check_shared", "predicted_device", "required"]
