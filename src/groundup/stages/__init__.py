"""What the verbs of ``workflow`` are made of, one module for each stage of the river."""
