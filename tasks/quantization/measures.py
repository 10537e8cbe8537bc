"""The numbers that quantization adds to tables: sizes, and what exported models do in ONNX Runtime."""

from __future__ import annotations

from typing import Any

from rgal.suite.measures import Measure

MODEL_MB, FLOAT_MB = (
    Measure(
        "model_mb", "Model", "MB", 3, place="back", optional=True, note="Model: weights packed at their bit width."
    ),
    Measure(
        "float_mb", "Float model", "MB", 3, place="csv", optional=True,
        note="Float model: {} MB.",
    ),
)  # fmt: skip
LEAST_SQNR = Measure(
    "least_sqnr_db", "Least SQNR", "dB", place="back", optional=True, on="teacher",
    note="Least SQNR: signal to quantization noise ratio of the layer that quantization disturbs most, weights and "
    "activations; layers.json has it of every layer.",
)  # fmt: skip
SPEED_UP = Measure(
    "float_latency_ms_64", "Speed-up", "×", bounds="", place="back", name="speedup_64", over="latency_ms_64",
    optional=True,
    note="Speed-up: ONNX Runtime, batch 64, float model over exported model, same run; above 1 is faster. Mean over "
    "the exported trials.",
)  # fmt: skip
TIMED = "b1, b64: ONNX Runtime, a batch of 1 or 64 images."
FASTER = "Their speed-up: float model over exported model, same run, above 1 is faster."


def _exported(key: str, heading: str, unit: str = "", **details: Any) -> Measure:
    """Declare a column of the table of exported models."""
    return Measure(key, heading, unit, place="", tables=("export",), **details)


def _timed(batch: int) -> tuple[Measure, ...]:
    """Declare the latency at a batch size, and how many times faster than the float model the exported one is."""
    ours, floats, group = f"latency_ms_{batch}", f"float_latency_ms_{batch}", f"Batch {batch}"
    return (
        _exported(
            ours, f"b{batch}", "ms", decimals=None, name=f"latency_{batch}_ms", group=group, short="ms",
            optional=True, note=TIMED,
        ),
        _exported(floats, "", "ms", decimals=None, name=f"float_latency_{batch}_ms", optional=True),
        _exported(
            floats, f"b{batch} speed-up", "×", bounds="", name=f"speedup_{batch}", over=ours, group=group,
            short="speed-up (×)", optional=True, note=FASTER,
        ),
    )  # fmt: skip


EXPORTED = (
    _exported(
        "onnx_top1", "ONNX top-1", "%", bounds="percentage", group="Top-1 (%)", short="ONNX", optional=True, on="labels"
    ),
    _exported(
        "onnx_agreement", "Agreement", "%", name="agreement", scale=100, optional=True,
        note="Agreement: share of the images that students are judged on, on which the exported model and the network "
        "that it was made from name the same class.",
    ),
    _exported(
        "integer_layers", "Integer layers", decimals=1, out_of="layers", optional=True,
        note="Integer layers: those that run as integer kernels in ONNX Runtime.",
    ),
    _exported("onnx_mb", "File", "MB", decimals=3, name="file_mb", group="File", short="MB", optional=True),
    _exported("onnx_float_mb", "", "MB", decimals=3, name="float_file_mb", optional=True),
    _exported(
        "onnx_mb", "File / float", decimals=3, bounds="", name="file_ratio", over="onnx_float_mb", group="File",
        short="/ float", optional=True,
    ),
    *_timed(1),
    *_timed(64),
)  # fmt: skip
