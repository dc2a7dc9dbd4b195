"""Drop-ins: the names, numbers and texts of other tools, from opcount's count.

For users, one file for each tool:

* `opcount.compat.mmengine` for ``mmengine.analysis``
* `opcount.compat.fvcore` for ``fvcore.nn``, and `opcount.compat.jit_handles` for ``fvcore.nn.jit_handles``
* `opcount.compat.torch` for ``torch.utils.flop_counter``

Behind mmengine and fvcore stands one analyzer:

* ``analysis``: runs a model once and answers by module and operator; ``prices``: FLOPs and activations of an operator
* ``subject``: the model that runs, or its skeleton in a dry run; ``preserve``: puts back what a run changes
* ``tally``: sums by module; ``trace_names``: operators' names in a trace of ``torch.jit.trace``
* ``handles``: operators' arguments as values of a traced graph; ``inputs``: arguments of the model
* ``parameters`` and ``structure``: the model as plain data; ``warning_filter``: hides warnings of the run

Behind ``torch.utils.flop_counter``: ``flop_formulas`` reads formulas that return FLOPs.
"""
