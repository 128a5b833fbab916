"""`python -m controlplane`: the control plane alone, as `wye up` and the image start it."""

from controlplane.app import main

main()
