"""Data-free quantization: the teacher in few bits, down to an ONNX file that runs in integers."""
