"""The assets in story order: raw, views, features, training, evaluation, reports."""
