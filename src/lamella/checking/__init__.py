"""Whether a model fits a platform: `lamella check`, one file a check."""
