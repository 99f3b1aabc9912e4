"""Proof by killing: a real bot in a storm, and a look from outside at what it leaves."""
