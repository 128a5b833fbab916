"""What one program logs and another looks for. Imports nothing: `wye up` reads it before the control plane is there."""

#: What the log line begins with that says who is waited for; `wye up` shows it.
WAITING = "waiting for the database: "
