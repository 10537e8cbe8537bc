"""Packaging. Tools are configured in pyproject.toml; tested versions are in constraints.txt."""

from pathlib import Path

from setuptools import setup

setup(
    name="rgal",
    version="0.1.0",
    description="Benchmark suite for data-free knowledge transfer with relation-guided adversarial learning",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[
        "rgal",
        "rgal.data",
        "rgal.nets",
        "rgal.reporting",
        "rgal.suite",
        "rgal.synthesis",
        "rgal.terms",
        "tasks",
        "baselines",
        "benchmarks",
        "rgal.benchmarks.speed",
    ],
    py_modules=["run_suite"],
    package_data={
        "benchmarks": ["*.yaml", "reference/*.yaml"],
        "rgal.reporting.page": ["templates/*"],
    },
    install_requires=[
        "torch>=2.10",
        "torchvision>=0.25",
        "kornia>=0.8",
        "scikit-learn>=1.5",
        "threadpoolctl>=3.1",
        "pandas>=2.2",
        "matplotlib>=3.9",
        "jinja2>=3.1",
        "pillow>=10",
        "tabulate>=0.9",
        "pyyaml>=6.0",
        "tqdm>=4.66",
        "pyarrow>=17",
        "safetensors>=0.5",
        "pydantic>=2.8",
        "filelock>=3.30",
    ],
    extras_require={
        "browser": ["playwright>=1.50"],
        "timm": ["timm>=1.0"],
        "onnx": ["onnx>=1.20", "onnxscript>=0.7", "onnxruntime>=1.24"],
        "tensorboard": ["tensorboard>=2.17"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.14",
            "mypy>=1.18",
            "pandas-stubs",
            "types-PyYAML",
            "types-tabulate",
            "types-tqdm",
        ],
    },
)
