"""Patterns of the processor, the tokenizer and what they return."""
