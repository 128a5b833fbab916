"""`python -m controlplane`: the control plane alone, as `wye up` and the image start it."""

import gc

gc.disable()  # imports make what stays: looking through it for garbage, again and again, is a tenth of a start
from controlplane.app import main  # noqa: E402

gc.freeze()
gc.enable()
main()
