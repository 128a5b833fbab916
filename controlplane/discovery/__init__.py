"""The xDS server: sends snapshots to Envoys, in an order that loses no request, and says what each has applied."""
