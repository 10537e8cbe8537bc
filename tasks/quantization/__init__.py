"""Data-free quantization: the teacher in few bits, down to an ONNX file that runs in integers.

Public, for use without the benchmark:

quantize       any network -> its fake-quantized copy
Bits, Scheme   widths, and everything else that can be chosen
export_onnx    a quantized network -> a file of integers for ONNX Runtime
"""

from rgal.tasks.quantization.onnx_export import export_onnx
from rgal.tasks.quantization.placement import quantize
from rgal.tasks.quantization.scheme import Bits, Scheme

__all__ = ["Bits", "Scheme", "export_onnx", "quantize"]
