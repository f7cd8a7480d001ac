"""Answers from passages, and how good they are: texts in, texts and numbers out."""
