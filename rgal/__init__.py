"""rgal: relation-guided adversarial learning and its rivals for data-free knowledge transfer."""

__version__ = "0.1.0"
