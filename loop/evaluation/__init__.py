"""What speaks for or against a number: noise, drift, certification, and what single keeps bring.

The engine imports it. Begin with `noise.py`, then `certification.py`.
"""
