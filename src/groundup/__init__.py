"""groundup: neural networks from raw data to something fine-tuned, evaluated and served."""

__version__ = "0.1.0"
