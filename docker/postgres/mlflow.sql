-- The registry's database, beside the one that Wye's endpoints are in. Run once, when the volume is new.
CREATE DATABASE mlflow;
