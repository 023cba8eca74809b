"""WHO answers: on-demand deployments (MLflow's endpoints), adapters loaded on them, and predictions."""
