"""What is right, independent of any framework: NumPy implementations and reference programs."""
