"""The model server: models in this process, answered in batches."""
