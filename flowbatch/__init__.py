"""flowbatch: AWS Batch on your own machine, in one process."""

__version__ = "0.1.0"
