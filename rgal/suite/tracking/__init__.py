"""Where the numbers of a run are written to beside its own files: TensorBoard, MLflow, Weights & Biases."""
