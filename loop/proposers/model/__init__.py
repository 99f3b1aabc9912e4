"""Proposals from a language model, asked in a process of its own.

Start at `language_model.py`.
"""
