"""(configs, fleet) → xDS resources. Pure: equal input gives equal bytes. No I/O, no clock, no settings of its own."""
