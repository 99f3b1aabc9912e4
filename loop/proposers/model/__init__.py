"""Proposals from a language model, asked in a process of its own.

`bot` puts it into a researcher. Start at `language_model.py`; a model's SDK is imported in the worker only.
"""
