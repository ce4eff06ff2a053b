"""The function side: what is copied into a package. Standard library, NumPy and an engine only."""
