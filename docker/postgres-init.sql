-- Run once, when the volume is empty. One server, two databases: Optuna's studies and MLflow's runs.
CREATE DATABASE optuna;
CREATE DATABASE mlflow;
